"""Small language models of the Llama type that have learnt a page by heart, as GGUF files, and what
they answer by a network written down here once more.

Learnt, so that the likeliest token is likeliest by far: a continuation then does not hang on the
last digit, whichever way the weights are quantised.
"""

import json
import pathlib

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PAGE = [
    "Q: What does alarm 17 mean?\nA: The oil pressure is low. Stop the pump and fill up.",
    "Q: What does alarm 18 mean?\nA: The belt slips. Tighten it by half a turn.",
    "Q: What does alarm 19 mean?\nA: The bearing is hot, above 85 °C. Let it cool down.",
    "Q: Who may open the cover?\nA: Only an electrician, and only while the main switch is off.",
    "Q: Wie heiß darf das Öl sein?\nA: Höchstens 60 °C. Größere Wärme schadet den Dichtungen.",
    "Q: How often is the filter changed?\nA: Every 500 hours:\n1. close the valve\n2. change the filter",
]

# What is asked: a prompt, the most tokens, and where to stop.
ASKED = [
    ("Q: What does alarm 17 mean?\nA:", 64, []),
    ("Q: What does alarm 19 mean?\nA:", 64, []),
    ("Q: Wie heiß darf das Öl sein?\nA: Höch", 64, []),
    ("Q: Who may open the cover?\nA:", 8, []),
    ("Q: How often is the filter changed?\nA:", 64, ["\n2."]),
    ("Q: What does alarm 18 mean?\nA:", 64, ["never", " by half"]),
]

EPS, BASE = 1e-5, 10000.0


def tokenizer():
    """A byte-level BPE of the page, with a mark before and one after each text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = ["<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(PAGE, trainer)
    # The byte-level step leaves what the bytes are to the decoder; "<s>" stands first.
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return made


class Sizes:
    def __init__(self, width, inner, layers, heads, key_heads, context):
        self.width, self.inner, self.layers = width, inner, layers
        self.heads, self.key_heads, self.context = heads, key_heads, context
        self.head = width // heads

    def shapes(self, vocabulary):
        """Tensors by their names in GGUF files, each row one output."""
        keys = self.key_heads * self.head
        yield "token_embd.weight", (vocabulary, self.width)
        for layer in range(self.layers):
            base = f"blk.{layer}"
            yield f"{base}.attn_norm.weight", (self.width,)
            yield f"{base}.attn_q.weight", (self.width, self.width)
            yield f"{base}.attn_k.weight", (keys, self.width)
            yield f"{base}.attn_v.weight", (keys, self.width)
            yield f"{base}.attn_output.weight", (self.width, self.width)
            yield f"{base}.ffn_norm.weight", (self.width,)
            yield f"{base}.ffn_gate.weight", (self.inner, self.width)
            yield f"{base}.ffn_up.weight", (self.inner, self.width)
            yield f"{base}.ffn_down.weight", (self.width, self.inner)
        yield "output_norm.weight", (self.width,)


def logits(xp, sizes, weights, tokens):
    """The scores after every token of one text; `xp` is numpy, or JAX's for learning."""

    def norm(x, name):
        return x / xp.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weights[name]

    def turned(x):
        """Rotary positions; pairs are neighbours, as llama.cpp has them for this type."""
        count, half = x.shape[0], sizes.head // 2
        angle = xp.arange(count)[:, None] * BASE ** (-xp.arange(half) / half)[None, :]
        cos, sin = xp.cos(angle)[:, None, :], xp.sin(angle)[:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        pair = xp.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
        return pair.reshape(x.shape)

    count = len(tokens)
    ahead = xp.where(xp.tril(xp.ones((count, count))) > 0, 0.0, -1e30)
    x = weights["token_embd.weight"][tokens]
    for layer in range(sizes.layers):
        base = f"blk.{layer}"
        part = norm(x, f"{base}.attn_norm.weight")
        split = lambda name, heads: (part @ weights[f"{base}.{name}.weight"].T).reshape(
            count, heads, sizes.head
        )
        query = turned(split("attn_q", sizes.heads))
        times = sizes.heads // sizes.key_heads
        key = xp.repeat(turned(split("attn_k", sizes.key_heads)), times, 1)
        value = xp.repeat(split("attn_v", sizes.key_heads), times, 1)
        score = xp.einsum("qhd,khd->hqk", query, key) / sizes.head**0.5 + ahead[None]
        score = xp.exp(score - score.max(-1, keepdims=True))
        mixed = xp.einsum("hqk,khd->qhd", score / score.sum(-1, keepdims=True), value)
        x = x + mixed.reshape(count, sizes.width) @ weights[f"{base}.attn_output.weight"].T
        part = norm(x, f"{base}.ffn_norm.weight")
        gate = part @ weights[f"{base}.ffn_gate.weight"].T
        gate = gate / (1.0 + xp.exp(-gate)) * (part @ weights[f"{base}.ffn_up.weight"].T)
        x = x + gate @ weights[f"{base}.ffn_down.weight"].T
    return norm(x, "output_norm.weight") @ weights["token_embd.weight"].T


def learnt(sizes, tokens, steps):
    """Weights that have the page by heart: Adam, all texts at every step."""
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(5)
    start = lambda shape: draw.standard_normal(shape) * 0.5 / shape[-1] ** 0.5
    weights = {
        name: np.ones(shape) if len(shape) == 1 else start(shape)
        for name, shape in sizes.shapes(tokens.get_vocab_size())
    }
    weights = {name: jnp.array(value, jnp.float32) for name, value in weights.items()}
    texts = [tokens.encode(text).ids + [1] for text in PAGE]
    longest = max(map(len, texts))
    filled = jnp.array([text + [1] * (longest - len(text)) for text in texts])
    counts = jnp.array([[at < len(text) - 1 for at in range(longest - 1)] for text in texts])

    def loss(weights):
        scores = jax.vmap(lambda text: logits(jnp, sizes, weights, text))(filled[:, :-1])
        chances = jax.nn.log_softmax(scores)
        hit = jnp.take_along_axis(chances, filled[:, 1:, None], -1)[..., 0]
        return -(hit * counts).sum() / counts.sum()

    @jax.jit
    def step(count, state):
        weights, first, second = state
        slope = jax.grad(loss)(weights)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, second, slope)
        pace = 3e-3 * jnp.sqrt(1 - 0.99**count) / (1 - 0.9**count)
        move = lambda w, m, v: w - pace * m / (jnp.sqrt(v) + 1e-8)
        return jax.tree.map(move, weights, first, second), first, second

    zero = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zero, zero)
    for count in range(1, steps + 1):
        state = step(float(count), state)
    return {name: np.asarray(value) for name, value in state[0].items()}


def q4_k(rows):
    """Q4_K, which the gguf package reads but does not write: 256 values in eight blocks, each with
    a scale and a minimum of six bits."""
    blocks = rows.astype(np.float32).reshape(-1, 8, 32)
    low = np.minimum(blocks.min(-1), 0.0)
    scale, low = (blocks.max(-1) - low) / 15.0, -low
    out = bytearray()
    for values, scales, lows in zip(blocks, scale, low):
        d = np.float16(max(scales.max(), 1e-8) / 63)
        dmin = np.float16(max(lows.max(), 1e-8) / 63)
        ls = np.clip(np.round(scales / np.float32(d)), 0, 63).astype(int)
        lm = np.clip(np.round(lows / np.float32(dmin)), 0, 63).astype(int)
        each = np.maximum(np.float32(d) * ls, 1e-12)[:, None]
        quant = np.round((values + (np.float32(dmin) * lm)[:, None]) / each)
        quant = np.clip(quant, 0, 15).astype(np.uint8)
        packed = [0] * 12
        for at in range(4):
            packed[at], packed[at + 4] = ls[at], lm[at]
        for at in range(4, 8):
            packed[at + 4] = (ls[at] & 15) | (lm[at] & 15) << 4
            packed[at - 4] |= ls[at] >> 4 << 6
            packed[at] |= lm[at] >> 4 << 6
        out += d.tobytes() + dmin.tobytes() + bytes(packed)
        out += (quant[0::2] | quant[1::2] << 4).tobytes()
    return np.frombuffer(bytes(out), np.uint8).reshape(rows.shape[0], -1)


def write(path, sizes, tokens, weights, kind):
    """The GGUF file, tokenizer included; norms stay FP32."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_heads)
    writer.add_rope_dimension_count(sizes.head)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_vocab_size(tokens.get_vocab_size())
    made = json.loads(tokens.to_str())["model"]
    pieces = sorted(made["vocab"], key=made["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if number < 2 else 1 for number in range(len(pieces))])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in made["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    quantised = {
        "F16": gguf.GGMLQuantizationType.F16,
        "Q8_0": gguf.GGMLQuantizationType.Q8_0,
        "Q4_K": gguf.GGMLQuantizationType.Q4_K,
    }[kind]
    for name, value in weights.items():
        value = np.asarray(value, np.float32)
        if value.ndim == 1:
            writer.add_tensor(name, value)
        elif kind == "Q4_K":
            writer.add_tensor(name, q4_k(value), raw_dtype=quantised)
        else:
            packed = gguf.quants.quantize(value, quantised)
            writer.add_tensor(name, packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    """The weights of a GGUF file as its quantisation left them."""
    import gguf

    tensors = gguf.GGUFReader(str(path)).tensors
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        for tensor in tensors
    }


def continued(sizes, weights, tokens, prompt, most, stop):
    """The likeliest continuation, and by how much its least certain token was the likeliest."""
    ids = tokens.encode(prompt).ids
    begin, margin = len(ids), np.inf
    for _ in range(most):
        scores = logits(np, sizes, weights, np.array(ids))[-1]
        second, first = np.sort(scores)[-2:]
        margin = min(margin, first - second)
        if scores.argmax() == 1:
            break
        ids.append(int(scores.argmax()))
    text = tokens.decode(ids[begin:])
    ends = [text.index(mark) for mark in stop if mark in text]
    return text[: min(ends)] if ends else text, margin


def make(folder, name, kinds, steps, **sizes):
    """Model folders as a publisher has them, one for each kind of number."""
    sizes = Sizes(**sizes)
    tokens = tokenizer()
    weights = learnt(sizes, tokens, steps)
    for kind in kinds:
        place = pathlib.Path(folder) / f"{name}-{kind.lower().replace('_', '')}"
        place.mkdir(parents=True, exist_ok=True)
        write(place / "model.gguf", sizes, tokens, weights, kind)
        left = read(place / "model.gguf")
        answers = [continued(sizes, left, tokens, *asked) for asked in ASKED]
        least = min(margin for _, margin in answers)
        # Quantised activations move scores by some hundredths.
        assert least > 0.5, f"{place}: a token was the likeliest by {least:.3f} only"
        asked = [
            {
                "prompt": prompt,
                "prompt_tokens": len(tokens.encode(prompt).ids),
                "tokens_max": most,
                "stop": stop,
                "text": text,
            }
            for (prompt, most, stop), (text, _) in zip(ASKED, answers)
        ]
        (place / "asked.json").write_text(json.dumps(asked, ensure_ascii=False, indent=1) + "\n")
        whole = [(one["prompt"], one["text"]) for one in asked if one["tokens_max"] == 64 and not one["stop"]]
        golden = {
            "input.text_input": [prompt for prompt, _ in whole],
            "output.text_output": [text for _, text in whole],
        }
        (place / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
        (place / "model.toml").write_text(
            f"""name = "{place.name}"
version = "1.0.0"
model = "model.gguf"
golden = "golden.json"
task = "generation"

[text]
tokens_max = 64

[[inputs]]
name = "text_input"
datatype = "BYTES"
shape = [-1]

[[outputs]]
name = "text_output"
datatype = "BYTES"
shape = [-1]
"""
        )
        print(f"{place.name}: every token the likeliest by {least:.2f} or more")
