"""Sentence encoders made by a script, and what `transformers` says they answer.

The weights are drawn, not learnt: what is tested is that the same numbers come out, and drawn
weights of a wide spread leave nothing in the network idle.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = """the a an is are was not no and or in on of to with for from it this that pump valve
motor fan belt bearing sensor line hall press oil water air temperature pressure vibration noise
level hot cold warm high low loud quiet fast slow broken blocked leaking running stopped open
closed one two three alarm fault report check replace ok""".split()

TEXTS = [
    "The pump in hall three is leaking.",
    "the pump in hall three is leaking",
    "Bearing temperature high, vibration high: check the fan!",
    "Motor stopped.",
    "",
    "Ünïcødé — naïve café 水 42 °C",
    "one two three " * 40,
    "a",
]


def tokenizer():
    """A WordPiece of the kind that BERT has, with pieces for whatever is not a known word."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *WORDS]
    pieces += ["##" + letter for letter in letters if letter.isalnum()]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return made


def config(vocabulary, hidden, layers, heads, inner, positions):
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
    }


def weights(settings, spread, seed):
    """Tensors by the names that BERT's safetensors files have."""
    draw = np.random.default_rng(seed)
    hidden, inner = settings["hidden_size"], settings["intermediate_size"]
    tensors = {}

    def add(name, *shape, around=0.0):
        drawn = around + spread * draw.standard_normal(shape)
        tensors[name] = drawn.astype(np.float32)

    def norm(name):
        add(f"{name}.LayerNorm.weight", hidden, around=1.0)
        add(f"{name}.LayerNorm.bias", hidden)

    def dense(name, into, out):
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    add("embeddings.word_embeddings.weight", settings["vocab_size"], hidden)
    add("embeddings.position_embeddings.weight", settings["max_position_embeddings"], hidden)
    add("embeddings.token_type_embeddings.weight", settings["type_vocab_size"], hidden)
    norm("embeddings")
    for layer in range(settings["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            dense(f"{base}.attention.self.{part}", hidden, hidden)
        dense(f"{base}.attention.output.dense", hidden, hidden)
        norm(f"{base}.attention.output")
        dense(f"{base}.intermediate.dense", hidden, inner)
        dense(f"{base}.output.dense", inner, hidden)
        norm(f"{base}.output")
    return tensors


def flax(tensors):
    """The same tensors as transformers' Flax model wants them: other names, kernels transposed."""
    params = {}
    for name, value in tensors.items():
        *path, last = name.split(".")
        if path[-1].endswith("_embeddings"):
            last = "embedding"
        elif path[-1] == "LayerNorm" and last == "weight":
            last = "scale"
        elif last == "weight":
            last, value = "kernel", value.T
        place = params
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return params


def reference(settings, tensors, tokens, pooling, normalize, longest):
    """What sentence-transformers' modules answer, with transformers' own network inside."""
    import jax
    from transformers import BertConfig, FlaxBertModel

    network = FlaxBertModel(BertConfig(**settings), _do_init=False, add_pooling_layer=False)
    params = flax(tensors)
    tokens.enable_truncation(longest)
    vectors = []
    with jax.default_matmul_precision("highest"):
        for text in TEXTS:
            ids = np.array([tokens.encode(text).ids])
            hidden = np.asarray(network(ids, params=params).last_hidden_state)[0]
            pooled = hidden.mean(0) if pooling == "mean" else hidden[0]
            if normalize:
                pooled = pooled / max(np.linalg.norm(pooled), 1e-12)
            vectors.append([float(value) for value in pooled.astype(np.float32)])
    return vectors


def make(folder, name, sizes, spread, pooling, normalize, longest):
    """A model's folder as a publisher has it, golden answers included."""
    folder = pathlib.Path(folder) / name
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokenizer()
    vocabulary = max(tokens.get_vocab_size(), sizes.pop("vocabulary", 0))
    settings = config(vocabulary, **sizes)
    tensors = weights(settings, spread, seed=11)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokens.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    vectors = reference(settings, tensors, tokens, pooling, normalize, longest)
    golden = {"input.text": TEXTS, "output.embedding": vectors}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    (folder / "model.toml").write_text(
        f"""name = "{name}"
version = "1.0.0"
model = "model.safetensors"
config = "config.json"
tokenizer = "tokenizer.json"
golden = "golden.json"
task = "embedding"

[text]
pooling = "{pooling}"
normalize = {str(normalize).lower()}
tokens_max = {longest}

[[inputs]]
name = "text"
datatype = "BYTES"
shape = [-1]

[[outputs]]
name = "embedding"
datatype = "FP32"
shape = [-1, {settings["hidden_size"]}]
"""
    )
