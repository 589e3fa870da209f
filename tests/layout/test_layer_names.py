"""Which modules stay float, by name."""

import pytest

from slimspec.layout.layer_names import judged_by, stays_float

FLOAT = {
    "lm_head": "NUM-006",
    "model.layers.61.shared_head.head": "NUM-006",
    "output": "NUM-006",
    "transformer.output_layer": "NUM-006",
    "score": None,
    "classifier": None,
    "model.layers.3.mlp.gate": "NUM-007",
    "model.layers.3.block_sparse_moe.gate": "NUM-007",
    "layers.3.ffn.gate.wg": "NUM-007",
    "model.layers.3.mlp.shared_expert_gate": None,
    "model.layers.3.mlp.router.layer": None,
    "model.embed_tokens": "NUM-008",
    "transformer.word_embeddings": "NUM-008",
    "transformer.wte": "NUM-008",
    "bert.embeddings.position_embeddings": None,
    "visual.patch_embed.proj": None,
    "transformer.wpe": None,
    "model.layers.0.linear_attn.conv1d": None,
}
QUANTIZED = (
    "model.layers.0.mlp.gate_proj",
    "model.layers.0.mlp.gate_up_proj",
    "encoder.layer.0.attention.output.dense",
    "encoder.layer.0.output.dense",
    "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.experts.0.w1",
    "model.layers.0.score_proj",
    "my_lm_head",
    "xlm_headroom.proj",
)


@pytest.mark.parametrize("module", FLOAT)
def test_module_stays_float_and_the_right_requirement_judges_it(module: str) -> None:
    assert stays_float(module)
    judges = [r for r in ("NUM-006", "NUM-007", "NUM-008") if judged_by(r, module)]
    assert judges == [r for r in (FLOAT[module],) if r]


@pytest.mark.parametrize("module", QUANTIZED)
def test_module_that_only_looks_like_one_is_quantized(module: str) -> None:
    assert not stays_float(module)
    assert not any(judged_by(r, module) for r in ("NUM-006", "NUM-007", "NUM-008"))
