"""An ablation as it is asked for, and its seeds in processes of their own: small models leave a GPU idle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clipbias.data.dataset import RetrievalDataset
from clipbias.data.kept import with_kept_images
from clipbias.data.loading import DATASETS, load_dataset
from clipbias.data.user import is_user_data
from clipbias.errors import UserError
from clipbias.files import own_folder
from clipbias.finetune.ablation import Grid, run_grid
from clipbias.finetune.measures import SHORT_SPLIT
from clipbias.finetune.recipe import Recipe
from clipbias.finetune.recipes import PRETRAIN_NANO
from clipbias.finetune.runs import BUILT_IN
from clipbias.finetune.train import Progress
from clipbias.shipped import WORLD

Label = Callable[[str], Progress]
"""A run's name -> the progress callback of its training."""


@dataclass(frozen=True)
class AskedGrid:
    """What `clipbias finetune ablation` takes: names and settings, which other processes can be given as they are.

    Attributes:
        out, recipes, seeds, base, weights, base_recipe, device: as `Grid` has them.
        data, root: the training data; ``test``, ``test_root``: the data the probes run on.
        pictures: a folder in which processes share the pictures of built-in data.
    """

    out: Path
    recipes: Mapping[str, Recipe]
    seeds: Sequence[int]
    base: str = ""
    weights: Path | None = None
    data: str = WORLD
    root: Path | None = None
    test: str = WORLD
    test_root: Path | None = None
    base_recipe: Recipe = PRETRAIN_NANO
    device: str = "auto"
    pictures: Path | None = None

    def grid(self) -> Grid:
        """The grid with its data sets opened."""
        return Grid(
            self.out,
            self.recipes,
            self.seeds,
            self.base,
            self.weights,
            self._held(self.data, self.root, "train"),
            self._held(self.test, self.test_root, None),
            base_recipe=self.base_recipe,
            short=self._held(self.test, None, SHORT_SPLIT) if self.test == WORLD else None,
            device=self.device,
        )

    def _held(self, name: str, root: Path | None, split: str | None) -> RetrievalDataset:
        """A data set, of one's own all of it; pictures that are made are made once."""
        split = None if name not in DATASETS and is_user_data(name) else split
        dataset = load_dataset(name, root=root, split=split)
        return with_kept_images(dataset, self.pictures) if name in BUILT_IN else dataset


def run_seeds(
    asked: AskedGrid, parallel: int, progress: Label, done: Callable[[int, int], None] = lambda seeds, total: None
) -> pd.DataFrame:
    """`run_grid` with ``parallel`` seeds at a time, each in a process of its own on the same device.

    A seed's runs depend on nothing of the others', so the table is that of one after another. On a CPU the processes
    share its cores; sums over other numbers of threads can differ in rounding.

    Args:
        asked: the grid.
        parallel: processes; 1: this one.
        progress: of one process, as `run_grid` takes it.
        done: of several, called with the finished seeds and their number.
    """
    count = min(parallel, len(asked.seeds))
    if count <= 1:
        return run_grid(asked.grid(), progress)
    with own_folder(asked.out, "pictures") as pictures:
        tables = _in_processes(replace(asked, pictures=pictures), count, done)
    return pd.concat([tables[seed] for seed in asked.seeds], ignore_index=True)


def _in_processes(asked: AskedGrid, count: int, done: Callable[[int, int], None]) -> dict[int, pd.DataFrame]:
    """The table of every seed."""
    # Spawned: a process that was forked cannot use CUDA.
    context: Any = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // count)
    tables: dict[int, pd.DataFrame] = {}
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    left = list(asked.seeds)
    try:
        while left or running:
            while left and len(running) < count:
                seed = left.pop(0)
                answers, answer = context.Pipe(duplex=False)
                process = context.Process(target=_one_seed, args=(replace(asked, seeds=(seed,)), threads, answer))
                process.start()
                answer.close()
                running[answers] = seed, process
            ready = wait(list(running))
            for answers in [one for one in running if one in ready]:
                seed, process = running[answers]
                tables[seed] = _answer(answers, seed, process)
                del running[answers]
                done(len(tables), len(asked.seeds))
    finally:
        # Where one of them failed or this one is to end: the others save their states and end too.
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
    return tables


def _answer(answers: Connection, seed: int, process: BaseProcess) -> pd.DataFrame:
    """A seed's table, once its process has ended.

    Raises:
        UserError: the process ended without an answer.
        Exception: what was raised there.
    """
    try:
        answer = answers.recv()
    except EOFError:
        answer = None
    process.join()
    if answer is None:
        raise UserError(
            f"seed {seed}: its process ended with code {process.exitcode}; the same command goes on from there"
        )
    if isinstance(answer, Exception):
        raise answer
    return answer


def _one_seed(asked: AskedGrid, threads: int, answer: Connection) -> None:
    """What a process does: one seed, with its share of the cores."""
    _begin(threads)
    try:
        answer.send(run_grid(asked.grid(), lambda name: lambda step, steps, values: None))
    except Exception as error:
        answer.send(error)
    except KeyboardInterrupt:  # the state is saved, and the parent says it
        pass


def _begin(threads: int) -> None:
    """What a process does first: takes its share of the cores, and sees to it that it ends with its parent."""
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # a training saves its state first

    threading.Thread(target=end, daemon=True).start()
