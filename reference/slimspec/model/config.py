"""The architecture of a model, read from config.json: sizes, kinds and switches, no weights.

Source: transformers models/{llama,qwen2,qwen3,qwen3_moe,deepseek_v3,bert}/configuration_*.py; the
DeepSeek-V2 and -V3 repositories' configuration_deepseek.py (defaults of absent members).
"""

from __future__ import annotations

from dataclasses import dataclass

from slimspec.checkpoint import CheckpointError, Config

from .members import Members
from .rope import KINDS, Rope, yarn_scale

DEEPSEEK = ("deepseek_v2", "deepseek_v3")
DECODERS = ("llama", "qwen2", "qwen3", "qwen3_moe", *DEEPSEEK)
ENCODERS = ("bert",)


@dataclass(frozen=True)
class Experts:
    """Routing facts of a mixture of experts.

    Attributes:
        count, chosen: experts of a layer, and how many of them see a token.
        groups, chosen_groups: experts are chosen within the best groups only.
        score: "softmax" or "sigmoid" of the router's logits.
        group_score: what ranks a group: its best expert ("max") or its best two ("top2").
        corrected: e_score_correction_bias is added for the choice, not to the weight.
        normalise: the weights of the chosen are divided by their sum.
        scaling: factor on the weights.
        shared: number of experts that see every token.
        sum_in_float32: outputs are added in float32 and rounded once, else at each addition.
        by_token: an expert sees its tokens in their order, else those first that rank it first.
        dense: layers without experts.
    """

    count: int
    chosen: int
    groups: int
    chosen_groups: int
    score: str
    group_score: str
    corrected: bool
    normalise: bool
    scaling: float
    shared: int
    sum_in_float32: bool
    by_token: bool
    dense: frozenset[int]


@dataclass(frozen=True)
class Latent:
    """Sizes of multi-head latent attention; `q_rank` is 0 where queries are not compressed."""

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True)
class Architecture:
    """Everything about a decoder or encoder that is not a weight.

    Attributes:
        where: the file it comes from, for error messages.
        softmax_scale: factor on q·kᵀ.
        attention_bias: q, k and v projections have a bias.
        qk_norm: RMSNorm over each head of q and k.
        window: how many positions a token sees back, by layer; 0 for all.
        rope, experts, latent: None where the model has none.
        mtp: number of layers that predict further tokens.
    """

    where: str
    model_type: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    softmax_scale: float
    tied: bool = False
    attention_bias: bool = False
    qk_norm: bool = False
    window: tuple[int, ...] = ()
    rope: Rope | None = None
    experts: Experts | None = None
    latent: Latent | None = None
    mtp: int = 0


def read_architecture(config: Config | None, where: str) -> Architecture:
    """Read what the forward pass needs from config.json.

    Raises:
        CheckpointError: no config.json, an unknown model_type, a member that is missing, out of
            range or names something that is not implemented.
    """
    if config is None:
        raise CheckpointError(f"{where}: config.json is missing")
    members = Members.of(config)
    model_type = members.word("model_type", "", (*DECODERS, *ENCODERS))
    if model_type in ENCODERS:
        return _encoder(members, model_type)
    members.word("hidden_act", "silu", ("silu",))
    heads = members.count("num_attention_heads")
    kv_heads = members.count("num_key_value_heads", heads)
    hidden = members.count("hidden_size")
    layers = members.count("num_hidden_layers")
    latent = _latent(members) if model_type in DEEPSEEK else None
    if heads % kv_heads:
        raise members.error("num_key_value_heads", f"a divisor of {heads} attention heads")
    head_dim = latent.nope + latent.rope if latent else _head_dim(members, hidden, heads)
    rope = _rope(members, latent.rope if latent else head_dim)
    return Architecture(
        members.where,
        model_type,
        members.count("vocab_size"),
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        members.number("rms_norm_eps", 1e-6),
        _softmax_scale(head_dim, rope, latent),
        tied=members.flag("tie_word_embeddings", False),
        attention_bias=model_type == "qwen2" or members.flag("attention_bias", False),
        qk_norm=model_type.startswith("qwen3"),
        window=_window(members, layers),
        rope=rope,
        experts=_experts(members, model_type, layers),
        latent=latent,
        mtp=members.count("num_nextn_predict_layers", 0, least=0) if latent else 0,
    )


def _encoder(members: Members, model_type: str) -> Architecture:
    members.word("hidden_act", "gelu", ("gelu",))
    members.word("position_embedding_type", "absolute", ("absolute",))
    heads, hidden = members.count("num_attention_heads"), members.count("hidden_size")
    head_dim = _head_dim(members, hidden, heads)
    return Architecture(
        members.where,
        model_type,
        members.count("vocab_size"),
        hidden,
        members.count("num_hidden_layers"),
        heads,
        heads,
        head_dim,
        members.number("layer_norm_eps", 1e-12),
        head_dim**-0.5,
        attention_bias=True,
    )


def _head_dim(members: Members, hidden: int, heads: int) -> int:
    if members.get("head_dim") is not None:
        return members.count("head_dim")
    if hidden % heads:
        raise members.error("hidden_size", f"a multiple of {heads} attention heads")
    return hidden // heads


def _latent(members: Members) -> Latent:
    q_rank = members.get("q_lora_rank")
    return Latent(
        members.count("q_lora_rank") if q_rank is not None else 0,
        members.count("kv_lora_rank"),
        members.count("qk_nope_head_dim"),
        members.count("qk_rope_head_dim"),
        members.count("v_head_dim"),
    )


def _rope(members: Members, dim: int) -> Rope:
    if dim % 2:
        raise CheckpointError(
            f"{members.where}: found {dim} rotated columns, expected an even number"
        )
    nested = members.object("rope_parameters")
    theta = (nested or members).number("rope_theta", 10000.0)
    scaling = nested or members.object("rope_scaling")
    if theta <= 1:
        raise members.error("rope_theta", "a number above 1")
    if scaling is None:
        return Rope("default", dim, theta)
    key = "rope_type" if scaling.get("rope_type") is not None else "type"
    kind = scaling.word(key, "default", tuple(KINDS))
    if kind == "default":
        return Rope(kind, dim, theta)
    attention = scaling.get("attention_factor")
    rope = Rope(
        kind,
        dim,
        theta,
        factor=scaling.number("factor"),
        original=scaling.number(
            "original_max_position_embeddings", members.number("max_position_embeddings", 0.0)
        ),
        low=scaling.number("low_freq_factor", 1.0),
        high=scaling.number("high_freq_factor", 4.0),
        beta_fast=scaling.number("beta_fast", 32.0),
        beta_slow=scaling.number("beta_slow", 1.0),
        mscale=scaling.number("mscale", 0.0),
        mscale_all_dim=scaling.number("mscale_all_dim", 0.0),
        attention_factor=None if attention is None else scaling.number("attention_factor"),
    )
    _check_scaling(scaling, rope)
    return rope


def _check_scaling(scaling: Members, rope: Rope) -> None:
    if rope.factor <= 0:
        raise scaling.error("factor", "a number above 0")
    if rope.kind == "linear":
        return
    if rope.original <= 0:
        raise scaling.error("original_max_position_embeddings", "a number above 0")
    if rope.kind == "llama3" and not 0 < rope.low < rope.high:
        raise scaling.error("high_freq_factor", "one above low_freq_factor, which is above 0")
    if rope.kind == "yarn" and not 0 < rope.beta_slow <= rope.beta_fast:
        raise scaling.error("beta_fast", "one of at least beta_slow, which is above 0")


def _softmax_scale(head_dim: int, rope: Rope, latent: Latent | None) -> float:
    """1/√d, times yarn's temperature squared in DeepSeek models (modeling_deepseek.py)."""
    scale = head_dim**-0.5
    if latent and rope.kind == "yarn" and rope.mscale_all_dim:
        scale *= yarn_scale(rope.factor, rope.mscale_all_dim) ** 2
    return scale


def _window(members: Members, layers: int) -> tuple[int, ...]:
    """Qwen: with use_sliding_window, the layers from max_window_layers on look back a window."""
    if not members.flag("use_sliding_window", False) or members.get("sliding_window") is None:
        return (0,) * layers
    size, first = members.count("sliding_window"), members.count("max_window_layers", 0, least=0)
    return tuple(size if layer >= first else 0 for layer in range(layers))


def _experts(members: Members, model_type: str, layers: int) -> Experts | None:
    if model_type == "qwen3_moe":
        return _checked(members, _qwen_experts(members, layers), "num_experts")
    if model_type in DEEPSEEK and members.get("n_routed_experts") is not None:
        return _checked(members, _deepseek_experts(members, model_type, layers), "n_routed_experts")
    return None


def _qwen_experts(members: Members, layers: int) -> Experts:
    step, plain = members.count("decoder_sparse_step", 1), members.counts("mlp_only_layers")
    return Experts(
        members.count("num_experts"),
        members.count("num_experts_per_tok"),
        1,
        1,
        "softmax",
        "max",
        corrected=False,
        normalise=members.flag("norm_topk_prob", False),
        scaling=1.0,
        shared=0,
        sum_in_float32=False,
        by_token=False,
        dense=frozenset(i for i in range(layers) if i in plain or (i + 1) % step),
    )


def _deepseek_experts(members: Members, model_type: str, layers: int) -> Experts:
    third = model_type == "deepseek_v3"
    method = members.word(
        "topk_method",
        "noaux_tc" if third else "greedy",
        ("noaux_tc", "greedy", "group_limited_greedy"),
    )
    first, step = (
        members.count("first_k_dense_replace", 0, least=0),
        members.count("moe_layer_freq", 1),
    )
    grouped = method != "greedy"
    return Experts(
        members.count("n_routed_experts"),
        members.count("num_experts_per_tok"),
        members.count("n_group", 1) if grouped else 1,
        members.count("topk_group", 1) if grouped else 1,
        members.word("scoring_func", "sigmoid" if third else "softmax", ("sigmoid", "softmax")),
        "top2" if method == "noaux_tc" else "max",
        corrected=method == "noaux_tc",
        normalise=members.flag("norm_topk_prob", third),
        scaling=members.number("routed_scaling_factor", 1.0),
        shared=members.count("n_shared_experts", 0, least=0),
        sum_in_float32=True,
        by_token=True,
        dense=frozenset(i for i in range(layers) if i < first or i % step),
    )


def _checked(members: Members, experts: Experts, key: str) -> Experts:
    if experts.count % experts.groups:
        raise members.error(key, f"a multiple of {experts.groups} groups")
    if experts.chosen_groups > experts.groups:
        raise members.error("topk_group", f"at most {experts.groups} groups")
    reach = experts.count // experts.groups * experts.chosen_groups
    if experts.chosen > reach:
        raise members.error("num_experts_per_tok", f"at most {reach} experts")
    return experts
