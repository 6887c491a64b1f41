"""Parameters of networks without their weights."""

from typing import Any

import pytest
from test_activations import config

from dlm.errors import UserError
from dlm.models.outside import config_of_type, meta_network
from dlm.planning.known_models import known_configurations, offline_config
from dlm.planning.parameters import count_parameters, meta_predictor
from dlm.planning.shapes import network_shape


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """No hub, and no cache of it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def by_hand(vocabulary: int, hidden: int, layers: int, inner: int, *, pre_norm: bool) -> int:
    tables = (vocabulary + 514 + 1) * hidden
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * inner + inner + hidden
    layer = attention + feed_forward + 4 * hidden  # two norms
    head = hidden * hidden + hidden + 2 * hidden + vocabulary  # its matrix is the embedding's
    return tables + 2 * hidden + layers * layer + head  # and one norm, before or after the layers


@pytest.mark.parametrize(
    "name, total, shape",
    [
        ("FacebookAI/xlm-roberta-base", 278_295_186, (250_002, 768, 12, 3072)),
        ("FacebookAI/xlm-roberta-large", 560_142_482, (250_002, 1024, 24, 4096)),
        ("facebook/xlm-roberta-xl", 3_482_741_760, (250_880, 2560, 36, 10240)),
        ("facebook/xlm-roberta-xxl", 10_712_994_816, (250_880, 4096, 48, 16384)),
    ],
)
def test_the_four_xlm_r_sizes(name: str, total: int, shape: tuple[int, ...]) -> None:
    counted = count_parameters(meta_network(offline_config(name)))
    assert counted.total == total == by_hand(*shape, pre_norm="-xl" in name)
    assert counted.embedding == (shape[0] + 515) * shape[1]
    assert counted.body == pytest.approx(shape[2] * 12 * shape[1] ** 2, rel=0.01)
    assert counted.trainable == total and counted.frozen == 0


def test_short_names_are_known_too() -> None:
    assert offline_config("xlm-roberta-base").hidden_size == 768


def test_parameters_that_layers_share_are_passed_in_each() -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
        "embedding_size": 8, "num_hidden_layers": 6,
    }  # fmt: skip
    one, each = (
        count_parameters(meta_network(config_of_type("albert", **sizes, num_hidden_groups=groups)))
        for groups in (1, 6)
    )
    assert each.total > 2 * one.total
    assert one.body == pytest.approx(each.body, rel=0.1)


def test_a_predictor_freezes_the_backbone() -> None:
    network = meta_network(config())
    predictor = meta_predictor(64, max_length=10, num_heads=4)
    counted = count_parameters(network, predictor)
    own = sum(parameter.numel() for parameter in predictor.parameters())
    assert counted.trainable == counted.predictor == own
    assert counted.frozen == count_parameters(network).total


def test_an_unknown_hub_name_is_refused_with_the_ways_on() -> None:
    with pytest.raises(UserError, match=r"nothing is downloaded.*hf download a/b config.json") as e:
        offline_config("a/b")
    assert all(name in str(e.value) for name in known_configurations())


def test_a_directory_without_a_configuration_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"no configuration that can be read.*config\.json"):
        offline_config(str(tmp_path))


def test_a_directory_is_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config(hidden_size=32, num_hidden_layers=3).save_pretrained(tmp_path)
    shape = network_shape(offline_config(str(tmp_path)))
    assert (shape.hidden, shape.layers, shape.intermediate, shape.dropout) == (32, 3, 256, False)
