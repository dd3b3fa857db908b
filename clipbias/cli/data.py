"""`clipbias data`: what data sets there are, whether they are what they should be, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipbias.cli import bias
from clipbias.cli.console import print_table, say

DATA_OPTIONS = ("name", "root", "split", "skip_bad")
"""What `load_dataset` takes beside a reader's options."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Data sets: list, check, measure and look at them.", no_args_is_help=True)
    app.add_typer(group, name="data")
    bias.register(group)

    @group.command("list")
    def list_(as_json: Annotated[bool, typer.Option("--json", help="JSON output.")] = False) -> None:
        """List the registered data sets, their licences, and where they are."""
        from clipbias.cli.console import print_json
        from clipbias.data.loading import DATASETS, dataset_spec
        from clipbias.data.roots import DATA_VARIABLE, configured_root

        known = {}
        for name in DATASETS:
            spec = dataset_spec(name)
            here = str(configured_root(name) or "no") if spec.needs_root else "made by clipbias"
            known[name] = {"what it is": spec.title, "licence": spec.licence, "here": here}
        if as_json:
            print_json(known)
            return
        rows = [(name, *facts.values()) for name, facts in known.items()]
        print_table(("data set", "what it is", "licence", "here"), rows, width=200)
        say(f"a set is found below the folder that {DATA_VARIABLE} names, or with --root; or give a path as --data")

    @group.command()
    def check(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="JSON output.")] = False,
    ) -> None:
        """Compare what lies on disk with what the protocol used; exit code 1 where it differs."""
        from dataclasses import asdict

        from clipbias.cli.console import pairs, print_json, progress_bar
        from clipbias.data.check import check_dataset
        from clipbias.data.loading import DATASETS, dataset_spec, load_dataset
        from clipbias.data.spec import DatasetSpec
        from clipbias.errors import CheckFailed

        options = pairs(option, "--option", DATA_OPTIONS)
        dataset = load_dataset(name, root=root, split=split, **options)
        spec = dataset_spec(name) if name in DATASETS else DatasetSpec(load_dataset)
        with progress_bar() as progress:
            findings = check_dataset(dataset, spec, options, images, progress)
        if as_json:
            facts = {"protocol": dataset.protocol, "fingerprint": dataset.fingerprint}
            print_json({**facts, "findings": [asdict(one) for one in findings]})
        else:
            say(f"{dataset.protocol}; fingerprint {dataset.fingerprint}")
            rows: list[tuple[str, ...]] = []
            for one in findings:
                rows.append((one.what, one.found, one.expected, "ok" if one.fine else "DIFFERS"))
                rows += [(f"  {example}", "", "", "") for example in one.examples]
            print_table(("", "found", "protocol", ""), rows)
        wrong = [one.what for one in findings if not one.fine]
        if wrong:
            raise CheckFailed(f"{name} is not what the protocol used: {', '.join(wrong)}")

    @group.command()
    def get(
        name: Annotated[str, typer.Argument(help="A data set.")],
        root: Annotated[
            Path | None, typer.Option(help="Where it goes; default: its place below CLIPBIAS_DATA.")
        ] = None,
        list_only: Annotated[bool, typer.Option("--list", help="Only say what would be downloaded.")] = False,
    ) -> None:
        """Download what is free of a data set, checked and unpacked; say what to do for the rest.

        An interrupted download resumes with the same command.
        """
        import os

        from clipbias.cli.console import progress_bar
        from clipbias.data.download import fetch, sources
        from clipbias.data.loading import dataset_spec
        from clipbias.data.roots import DATA_VARIABLE
        from clipbias.errors import UserError

        spec = dataset_spec(name)
        files, steps = sources(name)
        base = os.environ.get(DATA_VARIABLE)
        if root is None and files and not list_only:
            if not base:
                raise UserError(f"where should {name} go? Pass a folder with --root, or set {DATA_VARIABLE}")
            root = Path(base) / name
        if files:
            say(f"{name}: {spec.title}. Licence: {spec.licence}. {spec.homepage}")
        for file in files:
            size = f", {file.bytes:,} bytes" if file.bytes else ""
            if list_only:
                say(f"{file.url}{size}{', unpacked' if file.unpack else ''}")
                continue
            assert root is not None
            with progress_bar() as progress:
                fresh = fetch(file, root.expanduser(), progress)
            say(f"{file.name}: {'downloaded and checked' if fresh else 'is there already'}")
        if steps:
            say(steps if not files else f"What is left to do by hand:\n{steps}")
        if files and not list_only:
            say(f"compare it with the protocol: clipbias data check {name} --root {root}")

    @group.command()
    def sentences(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
    ) -> None:
        """How long the captions are: sentences, tokens, what 77 and 248 tokens cut, where the first sentence ends."""
        import numpy as np

        from clipbias.cli.console import pairs
        from clipbias.data.loading import load_dataset
        from clipbias.data.sentences import dataset_sentences
        from clipbias.models.tokenizer import clip_token_lists

        dataset = load_dataset(name, root=root, split=split, **pairs(option, "--option", DATA_OPTIONS))
        split_up = dataset_sentences(dataset)
        tokens = np.array([len(ids) + 2 for ids in clip_token_lists(dataset.captions)])
        first = np.array([len(ids) + 1 for ids in clip_token_lists([s[0] for s in split_up])])
        say(dataset.protocol)
        marks = (0, 5, 25, 50, 75, 95, 100)
        say(f"{'':34}{'mean':>7}" + "".join(f"{f'{m}%':>6}" for m in marks))
        for label, values in (
            ("sentences a caption", np.array([len(s) for s in split_up])),
            ("CLIP tokens a caption", tokens),
            ("the first sentence ends at token", first),
        ):
            say(f"{label:34}{values.mean():7.1f}" + "".join(f"{np.percentile(values, m):6.0f}" for m in marks))
        for limit in (77, 248):
            say(f"{f'captions beyond {limit} tokens':34}{(tokens > limit).mean():7.1%}")
        say(f"{'captions under 4 sentences':34}{np.mean([len(s) < 4 for s in split_up]):7.1%}")

    @group.command("pack")
    def pack_(
        name: Annotated[str, typer.Argument(help="A data set, or a path.")],
        model: Annotated[str, typer.Option(help="The model whose resizing is applied.")],
        out: Annotated[Path, typer.Option(help="Where the pack is written.")],
        weights: Annotated[Path | None, typer.Option(help="The model's checkpoint file.")] = None,
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        option: Annotated[list[str] | None, typer.Option(help="An option of the reader, name=value.")] = None,
        workers: Annotated[int, typer.Option(min=0, help="Decoding threads; 0: one per core.")] = 0,
    ) -> None:
        """Write a data set's resized pixels once, so that later runs decode nothing (--option pack=DIR)."""
        from clipbias.cli.console import pairs, progress_bar
        from clipbias.data.loading import load_dataset
        from clipbias.data.pack import needed, write_pack
        from clipbias.errors import UserError
        from clipbias.models.loading import load_model

        transform = getattr(load_model(model, weights=weights, device="cpu"), "transform", None)
        if transform is None or not hasattr(transform, "resized"):
            raise UserError(f"{model}: its image transform is its own; only models with a stated one can be packed for")
        dataset = load_dataset(name, root=root, split=split, **pairs(option, "--option", DATA_OPTIONS))
        height, width = transform.size
        say(f"{len(dataset.image_names):,} images, {needed(dataset, height, width) / 1e9:,.2f} GB in {out}")
        with progress_bar() as progress:
            write_pack(dataset, out, transform.geometry(), transform.resized, height, width, workers or None, progress)
        say(f"packed: use it with --data {name} --option pack={out}")

    @group.command()
    def show(
        name: Annotated[str, typer.Argument(help="A data set, e.g. scenes.")],
        index: Annotated[int, typer.Argument(help="Which image, from 0.")],
        root: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
        split: Annotated[str | None, typer.Option(help="Which part of it.")] = None,
        out: Annotated[Path, typer.Option(help="Where the picture and the caption are written.")] = Path(),
    ) -> None:
        """Write one image and its captions, and print the captions sentence by sentence."""
        from clipbias.data.loading import load_dataset
        from clipbias.data.sentences import dataset_sentences
        from clipbias.errors import UserError
        from clipbias.files import atomic_path, write_text
        from clipbias.names import file_name

        dataset = load_dataset(name, root=root, split=split)
        if not 0 <= index < len(dataset.image_names):
            raise UserError(
                f"{name}, split {dataset.split}: images are numbered 0 to {len(dataset.image_names) - 1}, not {index}"
            )
        image = dataset.load_image(index)
        stem = file_name(f"{dataset.name}_{dataset.split}_{index}")
        mine = [k for k, owner in enumerate(dataset.caption_image) if owner == index]
        with atomic_path(out / f"{stem}.png") as path:
            image.save(path, format="PNG")
        write_text(out / f"{stem}.txt", "".join(dataset.captions[k] + "\n" for k in mine))
        sentences = dataset_sentences(dataset)
        for k in mine:
            for number, sentence in enumerate(sentences[k], 1):
                say(f"{number}. {' '.join(sentence.split())}")
        say(f"written: {out / f'{stem}.png'} and {out / f'{stem}.txt'}")
