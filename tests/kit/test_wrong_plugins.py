"""Deliberately wrong plugins, and exactly which checks each of them fails."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.testing import CHECKS, Kit, Outcome

PLUGINS = Path(__file__).parent / "plugins"
# Each plugin is tests/kit/plugins/NAME.py and says in its first line what is wrong with it.
FAILS: dict[str, set[str]] = {
    "misspelt_hook": {"loads"},
    "leaves_early": {"loads"},
    "no_architectures": {"facts_valid"},
    "unknown_recipe": {"facts_valid"},
    "changing_facts": {"facts_constant"},
    "facts_of_process": {"facts_constant"},
    "unkept_facts": {"picklable_facts", "artifact_round_trip"},
    "torch_at_top": {"torch_free_import"},
    "phones_home": {"no_network"},
    "reads_weights": {"no_files", "seed_decides_values"},
    "writes_log": {"no_files"},
    "starts_process": {"no_files"},
    "calls_c": {"no_files"},
    "changes_settings": {"leaves_process_alone"},
    "seeds_itself": {"leaves_process_alone", "seed_decides_values"},
    "replaces_function": {"leaves_process_alone"},
    "sets_environment": {"leaves_process_alone"},
    "build_raises": {"builds"},
    "half_precision": {"builds"},
    "returns_tuple": {"output_shape"},
    "thousand_classes": {"builds_for_class_counts"},
    "colour_only": {"builds_for_channels"},
    "dishonest_option": {"options_at_bounds"},
    "own_randomness": {"deterministic_build"},
    "values_of_process": {"deterministic_build"},
    "constant_weights": {"seed_decides_values"},
    "shared_layer": {"independent_builds"},
    "softmax_at_end": {"logits_not_probabilities"},
    "always_drops": {"eval_deterministic"},
    "counts_images": {"eval_deterministic", "frozen_prefix_rests"},
    "drops_in_large_batches": {"eval_deterministic"},
    "squeezes_batch": {"batch_of_one"},
    "mixes_large_batches": {"batch_of_one"},
    "too_small": {"smallest_sizes_honest"},
    "one_size": {"sizes_above_smallest"},
    "needs_even_sizes": {"sizes_above_smallest"},
    "changes_input": {"inputs_unchanged"},
    "loses_digits": {"bfloat16_close"},
    "needs_layout": {"channels_last_close"},
    "stays_on_cpu": {"device_independent"},
    "forgets_activation": {"stages_compose"},
    "keeps_stages": {"stages_after_load_and_copy"},
    "owns_too_little": {"tensors_owned_once"},
    "shares_memory": {"tensors_owned_once"},
    "changes_mode": {"hooks_leave_model_alone"},
    "one_piece": {"has_backbone_and_head"},
    "pools_in_head": {"backbone_gives_vectors"},
    "detaches": {"loss_and_gradients"},
    "learns_backwards": {"training_learns"},
    "never_rests": {"eval_deterministic", "frozen_prefix_rests"},
    "weightless_auxiliary": {"auxiliary_heads"},
    "renames_out": {"import_export_inverse"},
    "hidden_state": {"artifact_round_trip"},
    "classes_in_backbone": {"new_classes_keep_backbone"},
    "channels_in_buffer": {"weights_fit_other_channels"},
}
FAILED = (Outcome.failed, Outcome.warned)


def test_there_is_a_wrong_plugin_for_every_check() -> None:
    assert {check.id for check in CHECKS} == set().union(*FAILS.values())


def test_every_wrong_plugin_is_in_the_table() -> None:
    assert {path.stem for path in PLUGINS.glob("*.py")} - {"good_plugin", "good_model"} == set(FAILS)


def test_the_plugin_that_they_are_made_of_passes(kit: Callable[..., Kit]) -> None:
    report = kit("good_plugin").report()
    assert report.passed, report.text()
    assert report.counts == {"passed": len(CHECKS)}


@pytest.mark.parametrize("name", FAILS)
def test_a_wrong_plugin_fails_its_check(name: str, kit: Callable[..., Kit]) -> None:
    made = kit(name)
    results = [made.result(case) for case in made.cases if case.check.id in FAILS[name]]
    assert {result.check.id for result in results if result.outcome in FAILED} == FAILS[name]
    assert all(result.detail for result in results)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILS)
def test_a_wrong_plugin_fails_nothing_else(name: str, kit: Callable[..., Kit]) -> None:
    report = kit(name).report()
    assert {result.check.id for result in report.results if result.outcome in FAILED} == FAILS[name], report.text()
