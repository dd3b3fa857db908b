"""Kinds of probes on rigged encoders whose bias is known, and their estimators against independent ones."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import clipbias
from clipbias.cli.app import app
from clipbias.data.scenes import WORLDS
from clipbias.probe.kinds.monotone import himo, monotone, prefix_lengths
from clipbias.probe.kinds.position import position
from clipbias.probe.kinds.text import text
from clipbias.probe.rigged import RiggedEncoder, rigged_data
from clipbias.probe.session import Session
from clipbias.probe.spec import find_probes
from clipbias.stats.places import place_effects


def rigged(kind, sees="no order"):
    """A session on the captions of scenes; pictures are seen whole."""
    data = rigged_data()
    return Session(RiggedEncoder(data, kind, sees), data)


def by(rows, metric, condition=None):
    return [r for r in rows if r.metric == metric and condition in (None, r.condition)]


def probe(name, **settings):
    (found,) = find_probes(name)
    return replace(found, settings={**found.settings, **settings})


def design(seed, captions=60, places=4, squares=2, truth=(0.2, 0.0, -0.05, -0.15)):
    """A Latin-square design with known effects of places and contents that differ by much."""
    rng = np.random.default_rng(seed)
    caption, told, square = (a.ravel() for a in np.meshgrid(*map(np.arange, (captions, places, squares))))
    place = (caption + told + square) % places
    level = rng.uniform(0.2, 0.8, (captions, places)) + rng.normal(0, 0.2, captions)[:, None]
    chance = np.clip(level[caption, told] + np.array(truth)[place], 0, 1)
    values = chance + rng.normal(0, 0.2, len(chance))
    return values, caption * places + told, place, caption


def test_place_effects_are_those_of_a_regression_on_dummies():
    import statsmodels.formula.api as smf

    values, content, place, caption = design(0)
    frame = pd.DataFrame({"y": values, "c": content, "p": place})
    fit = smf.ols("y ~ C(p) + C(c)", frame).fit()
    against = np.array([0.0, *(fit.params[f"C(p)[T.{j}]"] for j in (1, 2, 3))])
    found = place_effects(values, content, place, caption)
    assert [value for value, _ in found.effects] == pytest.approx(against - against.mean())
    assert found.slope[0] == pytest.approx(np.polyfit(range(4), against, 1)[0])
    clustered = fit.get_robustcov_results("cluster", groups=frame["c"] // 4)
    contrast = np.zeros(len(fit.params))
    for j, weight in zip((1, 2, 3), (-0.1, 0.1, 0.3), strict=True):
        contrast[list(fit.params.index).index(f"C(p)[T.{j}]")] = weight
    test = clustered.t_test(contrast)
    low, high = found.slope[1].low, found.slope[1].high
    # statsmodels counts every content's constant as a parameter that shrinks the degrees of freedom.
    assert (high - low) / 2 == pytest.approx(2.0 * float(test.sd[0][0]), rel=0.45)


def test_intervals_of_place_effects_cover_the_truth():
    truth = np.array([0.2, 0.0, -0.05, -0.15])
    hits = []
    for seed in range(200):
        values, content, place, caption = design(seed)
        chance = values  # no clipping occurs at these levels often enough to matter
        found = place_effects(chance, content, place, caption)
        hits.append([i.low <= t <= i.high for (_, i), t in zip(found.effects, truth, strict=True)])
    assert 0.90 <= np.mean(hits) <= 0.99


def simulated_run(root, model, hit, told, at, query):
    """A run folder of the probe `place` whose queries are found or not as ``hit`` says."""
    from tests_support import make_row, make_run

    from clipbias.results.folder import run_folder, write_run
    from clipbias.results.record import QUERY_COLUMNS

    queries = pd.DataFrame(
        {
            "condition": [f"{s + 1}-at-{j + 1}" for s, j in zip(told, at, strict=True)], "direction": "t2i",
            "query": query, "cluster": query, "better": np.where(hit, 0, 5), "equal": 0, "right": 1, "cosine": 0.5,
            "margin": 0.1, "eligible": True, "affected": True,
        }
    )[list(QUERY_COLUMNS)]  # fmt: skip
    folder = run_folder(root, model, "d", "place")
    write_run(folder, make_run(model=model, probe="place", probe_spec="p", data="d"), [make_row()], queries)
    return folder


def test_intervals_of_the_interaction_of_model_and_place_cover_the_truth():
    """Hits are drawn: a content of its own each, a common noise of both models, and known effects of places."""
    effects = np.array([[0.15, 0.05, -0.05, -0.15], [0.0, 0.05, 0.0, -0.05]])
    truth = effects[1] - effects[0]
    covered = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        query, told, square = (a.ravel() for a in np.meshgrid(*map(np.arange, (80, 4, 2)), indexing="ij"))
        place = (query + told + square) % 4
        level = np.clip(rng.uniform(0.25, 0.75, (80, 4)), 0.2, 0.8)[query, told]
        luck = rng.uniform(size=(80, 4, 2))[query, told, square]  # the same for both: they are paired
        hits = [(luck < level + effect[place]).astype(float) for effect in effects]
        found = place_effects(hits[1] - hits[0], query * 4 + told, place, query)
        covered.append([i is not None and i.low <= t <= i.high for (_, i), t in zip(found.effects, truth, strict=True)])
    assert 0.90 <= np.mean(covered) <= 0.99


def assert_table_is_csv(table, results):
    """The function's table and the command's CSV are the same lines, places among them."""
    run = CliRunner().invoke(app, ["compare", "steep", "level", "--results", str(results), "--csv"])
    said = pd.read_csv(io.StringIO(run.stdout), dtype={"place": object})
    assert list(said.columns) == ["runs", *table.columns]
    places = table[table["place"].notna()]
    assert len(places) == 5 and list(said["place"].dropna()) == [*"1234", "slope"] == [str(p) for p in places["place"]]
    for column in ("apart_value", "apart_low", "effect_first_value", "effect_second_high", "p_holm"):
        np.testing.assert_allclose(said[column], table[column].astype(float), rtol=1e-14, err_msg=column)


def test_two_models_are_compared_place_by_place(tmp_path):
    from clipbias.errors import UserError
    from clipbias.results.folder import finished
    from clipbias.results.places import place_contrasts

    rng = np.random.default_rng(3)
    query, told, square = (a.ravel() for a in np.meshgrid(*map(np.arange, (200, 4, 2)), indexing="ij"))
    place = (query + told + square) % 4
    steep = rng.uniform(size=len(query)) < np.array([0.8, 0.5, 0.3, 0.2])[place]
    level = rng.uniform(size=len(query)) < 0.5
    one, two = (simulated_run(tmp_path, m, h, told, place, query) for m, h in (("steep", steep), ("level", level)))
    found = place_contrasts(finished(one), finished(two))
    assert [line.place for line in found] == [1, 2, 3, 4, None]
    for line in found:
        assert line.apart[0] == pytest.approx(line.second[0] - line.first[0])
    assert found[0].apart[1].high < 0 < found[3].apart[1].low and found[4].apart[1].low > 0
    run = CliRunner().invoke(app, ["compare", "steep", "level", "--results", str(tmp_path)])
    assert run.exit_code == 0 and "a place  T2I" in run.stdout and "B - A" in run.stdout, run.output
    assert_table_is_csv(clipbias.compare("steep", "level", results=tmp_path), tmp_path)
    other = simulated_run(tmp_path, "other", level, told * 0, place, query * 8 + told * 2 + square)
    assert place_contrasts(finished(one), finished(one))[0].apart == (0, None)
    with pytest.raises(UserError, match="moves no sentence"):
        from tests_support import write_models

        write_models(tmp_path / "more", "m")
        place_contrasts(*[finished(next((tmp_path / "more").rglob("swap-1-4*/run.json")).parent)] * 2)
    assert other.exists()


def test_images_meet_the_places_of_their_captions():
    """I2T by hand: the cosines of every image with every caption of one square, own caption at its place."""
    session = rigged("first words", sees="first words")
    rows, queries = position(session, probe("place", squares=4))
    mine = queries[queries["direction"] == "i2t"]
    assert len(mine) == len(queries) / 2 and {r.condition for r in rows} == {"t2i", "i2t"}
    effects = [r for r in by(rows, "place_effect", "i2t")]
    assert effects[0].low > 0 > effects[-1].value and sum(r.value for r in effects) == pytest.approx(0)
    flat, _ = position(rigged("no order", sees="no order"), probe("place"))
    assert [r.value for r in by(flat, "place_effect")] == pytest.approx([0] * 8, abs=1e-9)
    # Sentence 1 of caption 0 at place 1, as the design has it for told = 0, square = 0 and the first caption chosen.
    from clipbias.probe.kinds.position import _texts

    chosen = np.array([len(s) >= 4 for s in session.sentences])
    at = (np.cumsum(chosen) - 1) % 4
    texts = [text for text, *_ in _texts(session, 0, at, chosen, "neutral", "This is a photo.")]
    cosines = session.images().numpy() @ session.encoder.encode_texts(texts).numpy().T
    own = np.diag(cosines)
    better = (cosines > own[:, None] + 1e-6).sum(axis=1)
    told = mine[mine["condition"].str.startswith("1-at-")].drop_duplicates("query").set_index("query")
    assert (told["better"].sort_index().to_numpy() == better[chosen]).all()


def test_image_to_text_is_left_out_where_images_have_several_captions():
    session = rigged("no order", sees="no order")
    twice = replace(session.dataset, caption_image=np.arange(100) // 2, image_names=session.dataset.image_names[:50])
    rows, queries = position(Session(session.encoder, twice), probe("place"))
    assert {r.condition for r in rows} == {"t2i"} == set(queries["direction"])


def test_places_that_no_sentence_joins_cannot_be_compared():
    with pytest.raises(ValueError, match="joins all places"):
        place_effects(np.zeros(4), np.arange(4), np.arange(4), np.arange(4))


def test_a_reader_of_the_first_words_has_the_place_effect_that_it_must_have():
    session = rigged("first words")
    rows, queries = position(session, probe("place", squares=4))
    rate = [r.value for r in by(rows, "place_recall@1", "t2i")]
    effects = by(rows, "place_effect", "t2i")
    # Behind a whole sentence of filler less than one more word is read: near chance everywhere but at the first place.
    assert rate[0] > 0.05 and max(rate[1:]) < rate[0] / 2
    want = np.array(rate) - np.mean(rate)  # every sentence at every place: the plain means
    assert [r.value for r in effects] == pytest.approx(want)
    assert by(rows, "place_slope")[0].high < 0
    half, _ = position(session, probe("place", squares=2))
    for row, true in zip(by(half, "place_effect", "t2i"), want, strict=True):
        assert row.low <= true <= row.high
    assert len(queries) == 2 * 16 * (np.array([len(s) for s in session.sentences]) >= 4).sum()


@pytest.mark.parametrize("fill", ["neutral", "others"])
def test_a_reader_without_order_has_no_place_effect(fill):
    rows, _ = position(rigged("no order"), probe("place", fill=fill))
    for row in [*by(rows, "place_effect"), *by(rows, "place_slope")]:
        assert row.value == pytest.approx(0, abs=1e-9) and (row.low is None or row.low <= 0 <= row.high)


def test_himo_by_hand_and_against_numpy():
    assert prefix_lengths(5, 2) == [3, 5] and prefix_lengths(7, 3) == [3, 5, 7]
    assert himo(np.array([0.1, 0.2])) == 1 and himo(np.array([0.1, 0.1, 0.2])) == 0
    values = np.array([0.1, 0.5, 0.2, 0.9, 0.3])
    assert himo(values) == pytest.approx(np.corrcoef(np.arange(5), values)[0, 1])
    assert himo(np.full(5, 0.3)) == 0


def test_more_text_brings_a_reader_of_everything_nearer_and_a_reader_of_the_start_nowhere():
    read = {kind: monotone(rigged(kind), probe("monotone"))[0] for kind in ("no order", "first words")}
    assert by(read["no order"], "himo@2")[0].value > 0.95 and by(read["no order"], "himo@all")[0].value > 0.9
    assert by(read["first words"], "himo@2")[0].value == 0  # two equal cosines do not rise
    assert by(read["first words"], "himo@3")[0].value == 0


def test_captions_that_grow_are_the_steps_where_the_data_have_them():
    from clipbias.errors import NotApplicable, UserError

    session = rigged("no order")
    grown = [" ".join(s[:k]) for s in session.sentences[:50] for k in (1, 3, 5)]
    data = replace(
        session.dataset, captions=grown, caption_image=np.repeat(np.arange(50), 3), sentences=None,
        image_names=session.dataset.image_names[:50],
    )  # fmt: skip
    rows, _ = monotone(Session(session.encoder, data), probe("himo-docci"))
    assert {r.metric: r.n for r in rows} == {"himo@2": 50, "himo@3": 50, "himo@all": 50}
    assert by(rows, "himo@3")[0].value > 0.9 and by(rows, "himo@all")[0].value > 0.9
    backward = replace(data, captions=[text for k in range(50) for text in grown[3 * k : 3 * k + 3][::-1]])
    rows, _ = monotone(Session(session.encoder, backward), probe("himo-docci"))
    assert by(rows, "himo@3")[0].value == 0 and by(rows, "himo@all")[0].value < -0.9
    with pytest.raises(NotApplicable, match="no image has several captions"):
        monotone(session, probe("himo-docci"))
    with pytest.raises(UserError, match="choose sentences, captions"):
        monotone(session, probe("himo-docci", prefixes="words"))


def test_a_text_encoder_says_where_it_reads_without_any_image():
    rows = {kind: text(rigged(kind), probe("text"))[0] for kind in ("no order", "first words")}
    bag = [by(rows["no order"], f"self_cosine_{where}", "inserted")[0].value for where in ("start", "middle", "end")]
    assert bag[1:] == pytest.approx([bag[0]] * 2)
    first = rows["first words"]
    start, _, end = (by(first, f"self_cosine_{w}", "inserted")[0].value for w in ("start", "middle", "end"))
    assert start < 0.5 and end == pytest.approx(1)
    assert by(first, "self_cosine_end", "removed")[0].value == pytest.approx(1)
    weights = [r.value for r in by(first, "sentence_weight")]
    assert weights[0] > 0.7 > 0.2 > max(map(abs, weights[2:6]))


def test_shapley_values_are_those_of_all_orders():
    from itertools import permutations

    from clipbias.stats.shapley import shapley, subsets_needed

    rng = np.random.default_rng(0)
    for count in (1, 3, 5):
        subsets, orders = subsets_needed(count, 4, 0)
        worth = {s: rng.normal() for s in subsets}
        assert len(subsets) == 2**count and not orders
        brute = np.zeros(count)
        every = list(permutations(range(count)))
        for order in every:
            for k, part in enumerate(order):
                brute[part] += worth[tuple(sorted(order[: k + 1]))] - worth[tuple(sorted(order[:k]))]
        shares, error = shapley(count, orders, worth.__getitem__)
        assert shares == pytest.approx(brute / len(every)) and not error.any()
        assert shares.sum() == pytest.approx(worth[tuple(range(count))] - worth[()])


def test_sampled_shapley_values_are_near_the_truth_by_their_error_and_sum_to_the_gain():
    from clipbias.stats.shapley import shapley, subsets_needed

    parts = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.0, 0.0, -0.1])

    def worth(subset):
        return parts[list(subset)].sum() + 0.4 * (0 in subset and 1 in subset)

    truth = parts + np.array([0.2, 0.2, 0, 0, 0, 0, 0, 0])
    subsets, orders = subsets_needed(8, 64, 1)
    shares, error = shapley(8, orders, {s: worth(s) for s in subsets}.__getitem__)
    assert shares.sum() == pytest.approx(worth(tuple(range(8))))
    assert (np.abs(shares - truth) <= 4 * error + 1e-9).all()


def test_shares_of_sentences_sum_to_the_gain_and_fall_on_what_is_read():
    from clipbias.probe.kinds.shapley import shapley as kind

    rows, _ = kind(rigged("first words"), probe("shapley", captions=20))
    gain, curve = by(rows, "caption_gain")[0].value, [r.value for r in by(rows, "shapley_by_sentence")]
    session = rigged("first words")
    assert by(rows, "shapley_first")[0].value == pytest.approx(curve[0])
    full = session.rankings([(c, None, 0) for c in session.dataset.captions])["t2i"]
    from clipbias.stats.ties import credit

    chosen = np.linspace(0, 99, 20).astype(int)
    assert gain == pytest.approx(credit(*full.counts, 1)[chosen].mean() - 1 / 100, abs=1e-6)


def test_an_order_free_reader_relies_on_the_first_sentence_for_what_it_tells_and_one_of_the_start_for_more():
    from clipbias.probe.kinds.reliance import reliance

    rows = reliance(rigged("no order"), probe("reliance"))[0]
    excess = by(rows, "excess_loss", "late-fusion")[0]
    assert excess.low <= 0 <= excess.high or abs(excess.value) < 0.05
    rows = reliance(rigged("first words", sees="first words"), probe("reliance"))[0]
    assert by(rows, "excess_loss", "late-fusion")[0].low > 0.3


@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_the_oracle_of_scenes_is_a_search_for_the_facts(world):
    from clipbias.probe.kinds.reliance import oracle_credits

    session = rigged("no order")
    session.dataset = replace(session.dataset, name=world.name, split="validation")
    scenes = [world.sample_scene("validation", i) for i in range(100)]
    found = oracle_credits(session, without_first=True)
    for i in range(0, 100, 10):
        names = [f for s in world.long_caption(scenes[i])[1:] for f in s.facts]
        mine = scenes[i].facts()
        fits = sum(all(other.facts().get(n) == mine[n] for n in names) for other in scenes)
        assert found[i] == pytest.approx(1 / fits)


def test_a_shift_ruins_a_reader_of_the_start_and_not_one_without_order():
    from clipbias.probe.kinds.shift import fall, prefix, shift, unevenness

    assert fall(np.array([[0.8, 0.9, 0.1]]))[0] == pytest.approx(0.75)
    assert unevenness(np.array([[0.8, 0.9, 0.1]]))[0] == pytest.approx(0.05)
    session = rigged("first words", sees="first words")
    rows, _ = shift(session, probe("shift", shifts=[0, 5, 40]))
    assert {r.condition for r in rows} == {f"{f}-{d}" for f in ("pads", "neutral", "unseen") for d in ("t2i", "i2t")}
    at = {(r.condition, r.x): r.value for r in by(rows, "shift_recall@1")}
    assert at["neutral-t2i", 0.0] > 0.4 and min(at.values()) < 0.05
    # Eight words are read: five pads leave three, forty none, and then every picture is as near as any other.
    assert at["pads-t2i", 0.0] > at["pads-t2i", 5.0] > at["pads-t2i", 40.0] == pytest.approx(1 / 100)
    blind, _ = shift(rigged("no order", sees="no order"), probe("shift", shifts=[0, 5, 40]))
    flat = [r.value for r in by(blind, "shift_recall@1", "pads-i2t")]
    assert flat == [flat[0]] * 3 and by(blind, "shift_fall", "pads-i2t")[0].value == 0
    short, _ = shift(rigged("weighted", sees="weighted"), probe("shift", shifts=[0, 5, 300]))
    assert [r.x for r in by(short, "shift_recall@1", "pads-t2i")] == [
        0,
        5,
    ]  # no room for 300 pads: the curve ends there
    assert by(rows, "shift_fall", "unseen-t2i")[0].low > 0.3
    trend = by(rows, "shift_trend", "neutral-t2i")[0]
    assert trend.value < 0 and trend.p < 1e-6
    assert prefix(session, "one two", 0) == ("", 0)


def test_pairs_of_scenes_differ_where_they_say_and_are_told_apart_by_who_reads_them(tmp_path):
    from clipbias.errors import UserError
    from clipbias.probe.kinds.pairs import pairs, read_trials, scene_trials

    for name, world in WORLDS.items():
        swapped = set()
        for index in (*range(30), 42):  # 42 of the first world: "All stands on tan ground"
            scene = world.sample_scene("validation", index)
            caption = world.long_caption(scene)
            skies = sum("sky.colour" in s.facts for s in caption)
            for trial in scene_trials(scene, caption, 0):
                changed = sum(a != b for a, b in zip(trial.right.split(), trial.wrong.split(), strict=True))
                assert changed == (1 + skies if trial.group == "swapped" else 1), trial
                if trial.group == "swapped":
                    swapped.add(skies)
                    assert skies > 1 or sorted(trial.right.split()) == sorted(trial.wrong.split())
        assert swapped == ({1} if name == "scenes" else {1, 2})
    session = rigged("no order")
    names, captions = session.dataset.image_names, session.dataset.captions
    file = tmp_path / "p.csv"
    lines = [f'{names[i]},"{captions[i]}","{captions[i + 1]}",g,{i // 2}' for i in range(20)]
    file.write_text("\n".join(["image,right,wrong,group,item", *lines, f"{names[0]},same,same,ties,"]))
    rows, _ = pairs(session, probe("pairs", file=str(file)))
    assert by(rows, "pair_accuracy", "g")[0].value == 1 == by(rows, "item_accuracy", "g")[0].value
    assert by(rows, "item_accuracy", "g")[0].n == 10 and by(rows, "pair_accuracy", "ties")[0].value == 0.5
    file.write_text("image,right,wrong\nnowhere,a,b\n")
    with pytest.raises(UserError, match="line 2: the data set has no image 'nowhere'"):
        read_trials(file, {"0": 0})
    file.write_text("image,right\n0,a\n")
    with pytest.raises(UserError, match="line 2: the columns image, right and wrong"):
        read_trials(file, {"0": 0})
    with pytest.raises(UserError, match=r"say settings\.file"):
        pairs(session, probe("pairs"))
