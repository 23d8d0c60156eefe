"""Promotion through the command line: the gate's refusal, force, a first champion, and what is written down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster import cli, dossiers, status
from cluster.home import Home, open_home
from cluster.registry import champion
from cluster.report import Silent
from jobs import promote, rollback
from models.bundle import load_bundle, save_bundle
from models.calibration import Calibration
from models.errors import GateError, InputError

pytestmark = pytest.mark.ray
PLANT = "harbor"
FEW = "promote.min_failures=1"  # the tests' plant has few; a setting that nobody should take for evidence
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def home(tuned, tmp_path: Path) -> Home:
    """A copy, since promotions change it."""
    shutil.copytree(tuned.fresh, tmp_path / "copy")
    return open_home(tmp_path / "copy", environment={}, assignments=["split.unseen_machines=0.25", FEW])


def candidates(home: Home) -> dict[str, str]:
    listed = json.loads((home.of(PLANT).bundles / "candidates.json").read_text())
    return {kind: entry["version"] for kind, entry in listed.items()}


def others(home: Home) -> list[str]:
    best = champion(home, PLANT)
    assert best is not None
    return [version for version in candidates(home).values() if version != best.version]


def command(home: Home, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["promote", "--home", str(home.path), "--plant", PLANT, *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def newest(home: Home) -> dossiers.Dossier:
    return dossiers.read(home, PLANT, dossiers.names(home, PLANT)[-1])


def test_tuning_leaves_a_dossier_of_what_it_chose(home: Home) -> None:
    best = champion(home, PLANT)
    assert best is not None and best.dossier == dossiers.names(home, PLANT)[0]
    found = dossiers.read(home, PLANT, best.dossier)
    assert (found.verdict, found.promoted, found.forced, found.champion) == ("first", True, False, None)
    assert set(found.candidates) == {"network", "trees", "no_sensor"}
    assert max(found.candidates, key=lambda kind: found.candidates[kind]) == best.kind == found.challenger.kind
    (plant,) = status.run(home, progress=Silent()).plants
    assert plant.promotion is not None and (plant.promotion.verdict, plant.promotion.at) == ("first", found.at)
    bundle = load_bundle(home.of(PLANT).bundles / best.version)
    assert found.data_version == found.challenger.data_version == bundle.spec.lineage.data_version


def test_too_few_failures_are_exit_code_3_and_the_champion_stays(home: Home, capfd: Captured) -> None:
    before, version = champion(home, PLANT), others(home)[0]
    assert before is not None
    assert command(home, "--version", version, "--set", "promote.min_failures=500") == 3
    out, err = capfd.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith(f"millwright: {before.version} stays harbor's champion, {version} is inconc")
    assert "failures in the slice are too few, at least 500 tell" in last
    assert last.endswith(
        "Wait for more failures and promote again, or crown it all the same: add --force --reason TEXT."
    )
    assert champion(home, PLANT) == before
    found = newest(home)
    assert (found.verdict, found.promoted, found.challenger.version) == ("inconclusive", False, version)
    assert found.champion is not None and found.champion.version == before.version
    assert str(home.of(PLANT).dossiers / f"{found.name}.md") in last
    (plant,) = status.run(home, progress=Silent()).plants
    assert plant.promotion is not None and plant.promotion.verdict == "first"  # of who answers, not of who was refused


def test_a_refusal_is_one_object_with_json(home: Home, capfd: Captured) -> None:
    assert command(home, "--version", others(home)[0], "--set", "promote.min_failures=500", "--json") == 3
    found = json.loads(capfd.readouterr().out)
    assert found["exit_code"] == 3 and "stays harbor's champion" in found["error"]


def test_force_crowns_with_a_reason_that_is_written_down(home: Home, capfd: Captured) -> None:
    before, version = champion(home, PLANT), others(home)[0]
    assert before is not None
    few = ("--set", "promote.min_failures=500")
    assert command(home, "--version", version, "--force", *few) == 2
    assert "No reason to force it" in capfd.readouterr().err
    assert command(home, "--version", version, "--force", "--reason", "the pump was rebuilt", "--json", *few) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["before"], report["after"], report["verdict"], report["forced"]) == (
        before.version, version, "inconclusive", True,
    )  # fmt: skip
    now, found = champion(home, PLANT), newest(home)
    assert now is not None and (now.version, now.dossier) == (version, found.name)
    assert (found.forced, found.promoted, found.reason) == (True, True, "the pump was rebuilt")
    words = Path(report["dossier"]).read_text()
    assert words.startswith(f"# harbor: {version} answers now, forced: the gate said inconclusive\n")
    assert "Reason given: the pump was rebuilt" in words
    (plant,) = status.run(home, progress=Silent()).plants
    assert plant.promotion is not None and plant.promotion.forced and plant.promotion.verdict == "inconclusive"
    told = {"reason": "the pump was rebuilt", "dossier": found.name, "verdict": "inconclusive"}
    assert tags(home, now.version) == told


def tags(home: Home, version: str) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home.registry / 'mlflow.db'}")
    alias = client.get_model_version_by_alias(PLANT, "champion")
    assert alias.tags["millwright.version"] == version
    return {key: alias.tags[key] for key in ("reason", "dossier", "verdict")}


def judged(home: Home, version: str) -> dossiers.Dossier:
    """What the gate writes down, whatever it says."""
    try:
        promote.run(home, progress=Silent(), plant=PLANT, version=version)
    except GateError as error:
        assert home.of(PLANT).dossiers.joinpath(f"{newest(home).name}.md").as_posix() in str(error)  # noqa: PT017
    return newest(home)


def test_on_the_studys_own_slice_the_gate_finds_the_studys_own_figures(home: Home) -> None:
    best, version = champion(home, PLANT), others(home)[0]
    assert best is not None
    found = judged(home, version)
    one, before, ticks = found.challenger, found.champion, found.slice
    assert before is not None and ticks is not None and before.version == best.version
    assert (ticks.kind, ticks.num_failures, found.verdict) == ("validation", 0, "inconclusive")
    assert one.seen and before.seen and "both models were calibrated" in ticks.told
    for model in (one, before):
        spec = load_bundle(home.of(PLANT).bundles / model.version).spec
        assert model.log_likelihood.value == pytest.approx(spec.metrics["validation_log_likelihood"], abs=1e-5)


def test_a_slice_with_failures_gives_a_verdict_with_interval_counts_and_margin(home: Home) -> None:
    """The slice reaches until 97 % of time here, later than what the study validated on."""
    home = open_home(
        home.path, environment={}, assignments=["split.unseen_machines=0.25", "split.validate_until=0.97", FEW]
    )
    best = champion(home, PLANT)
    assert best is not None
    for version in others(home):
        found = judged(home, version)
        one, before, ticks = found.challenger, found.champion, found.slice
        assert before is not None and ticks is not None and ticks.num_failures >= 2
        assert one.log_likelihood.value is not None and before.log_likelihood.value is not None
        assert found.difference.value == pytest.approx(one.log_likelihood.value - before.log_likelihood.value, abs=1e-9)
        low, high = found.difference.low, found.difference.high
        assert low is not None and high is not None and low < found.difference.value < high
        assert found.usual_log_likelihood is not None and found.margin is not None
        gain = before.log_likelihood.value - found.usual_log_likelihood
        assert found.margin == pytest.approx(max(0.0, 0.1 * gain))
        expected = "better" if low > 0 else "non-inferior" if low > -found.margin else "inconclusive"
        assert found.verdict == ("inferior" if expected == "inconclusive" and high < 0 else expected)
        assert found.promoted == (found.verdict in ("better", "non-inferior"))
        assert before.caught is not None and one.caught is not None and one.caught <= ticks.num_announceable
        words = (home.of(PLANT).dossiers / f"{found.name}.md").read_text()
        assert f"| log-likelihood, nats a tick | {before.log_likelihood.value:.4f} (" in words
        if found.promoted:
            promote.run(home, progress=Silent(), plant=PLANT, version=best.version, force=True, reason="back")


def test_a_better_challenger_needs_no_force(home: Home) -> None:
    """The champion is the trees' own model, calibrated wrongly on purpose: it foresees failures that never come."""
    home = open_home(
        home.path, environment={}, assignments=["split.unseen_machines=0.25", "split.validate_until=0.97", FEW]
    )
    good = candidates(home)["trees"]
    bundle = load_bundle(home.of(PLANT).bundles / good)
    spec = bundle.spec.model_copy(update={"version": "trees-wrong", "calibration": Calibration(shift=6.0)})
    save_bundle(home.of(PLANT).bundles / "trees-wrong", spec, weights=bundle.model.decode(), card="wrong")
    promote.run(home, progress=Silent(), plant=PLANT, version="trees-wrong", force=True, reason="to be beaten")
    report = promote.run(home, progress=Silent(), plant=PLANT, version=good)
    assert (report.before, report.after, report.verdict, report.forced) == ("trees-wrong", good, "better", False)
    assert champion(home, PLANT).version == good and tags(home, good)["verdict"] == "better"  # type: ignore[union-attr]
    with pytest.raises(GateError, match=r"trees-wrong is worse than the champion: .*Train a better model, or crown"):
        promote.run(home, progress=Silent(), plant=PLANT, version="trees-wrong")
    assert newest(home).verdict == "inferior"


def test_one_command_brings_the_champion_before_back_whatever_became_of_this_one(home: Home) -> None:
    before, version = champion(home, PLANT), others(home)[0]
    assert before is not None
    with pytest.raises(InputError, match="Nobody to go back to"):
        rollback.run(home, progress=Silent(), plant=PLANT)  # the study's choice was the plant's first
    promote.run(home, progress=Silent(), plant=PLANT, version=version, force=True, reason="a trial")
    (home.of(PLANT).bundles / version / "manifest.json").unlink()
    report = rollback.run(home, progress=Silent(), plant=PLANT, reason="it raised alarms everywhere")
    assert (report.before, report.after) == (version, before.version)
    standing = champion(home, PLANT)
    assert standing is not None and (standing.version, standing.path) == (before.version, before.path)
    found = newest(home)
    assert (found.verdict, found.reason, found.champion.version) == (  # type: ignore[union-attr]
        "rolled-back", "it raised alarms everywhere", version
    )  # fmt: skip
    with pytest.raises(InputError, match=r"No bundle|Damaged|manifest"):
        rollback.run(home, progress=Silent(), plant=PLANT)  # forward again, to what is broken
    after = champion(home, PLANT)
    assert after == standing


def test_without_a_champion_there_is_no_gate(home: Home) -> None:
    version = others(home)[0]
    home.of(PLANT).champion.unlink()
    report = promote.run(home, progress=Silent(), plant=PLANT, version=version)
    assert (report.before, report.after, report.verdict, report.forced) == (None, version, "first", False)
    found = newest(home)
    assert (found.verdict, found.champion, found.slice) == ("first", None, None)


def test_the_standing_champion_again_is_no_harm_and_keeps_its_dossier(home: Home) -> None:
    before, kept = champion(home, PLANT), dossiers.names(home, PLANT)
    assert before is not None
    report = promote.run(home, progress=Silent(), plant=PLANT, version=before.version)
    assert report.verdict is None and champion(home, PLANT) == before
    assert dossiers.names(home, PLANT) == kept


def test_a_damaged_pointer_or_bundle_lets_only_force_through(home: Home) -> None:
    before, version = champion(home, PLANT), others(home)[0]
    assert before is not None
    (Path(str(before.path)) / "card.md").write_text("changed")
    with pytest.raises(GateError, match=r"inconclusive: found the champion's bundle cannot be read\..*card\.md"):
        promote.run(home, progress=Silent(), plant=PLANT, version=version)
    home.of(PLANT).champion.write_text("{")
    with pytest.raises(GateError, match=r"who answers now stays .*who answers now is not known\. Damaged point"):
        promote.run(home, progress=Silent(), plant=PLANT, version=version)
    promote.run(home, progress=Silent(), plant=PLANT, version=version, force=True, reason="the disk was full")
    now = champion(home, PLANT)
    assert now is not None and now.version == version


def test_an_unknown_version_or_plant_is_refused_before_anything_is_judged(home: Home) -> None:
    kept = dossiers.names(home, PLANT)
    with pytest.raises(InputError, match="No bundle here"):
        promote.run(home, progress=Silent(), plant=PLANT, version="trees-0000000000")
    assert dossiers.names(home, PLANT) == kept
