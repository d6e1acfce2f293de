"""The incomplete checkpoint that torchvision publishes for VGG-16."""

from collections.abc import Callable

import pluggy
import torch

HooksOf = Callable[[str], pluggy.HookRelay]


def test_a_classifier_of_nans_is_left_out(hooks_of: HooksOf) -> None:
    """``imagenet1k_features`` holds NaNs in place of the classifier that was never trained."""
    state = {
        "features.0.weight": torch.ones(2, 3),
        "classifier.0.weight": torch.full((2, 3), float("nan")),
        "classifier.6.bias": torch.zeros(2),
    }
    imported = hooks_of("zoo_vgg").zoo_import_state(architecture=None, model=None, state=state)
    assert list(imported) == ["features.0.weight", "classifier.6.bias"]


def test_the_incomplete_checkpoint_claims_no_classes_and_no_accuracy(hooks_of: HooksOf) -> None:
    vgg16 = next(a for a in hooks_of("zoo_vgg").zoo_architectures() if a.name == "vgg16")
    features = next(weights for weights in vgg16.weights if weights.tag == "imagenet1k_features")
    assert (features.class_names, features.metrics) == ("", {})
    assert vgg16.default_weights == "imagenet1k_v1"
