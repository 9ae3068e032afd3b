"""What the clients' checks share: the addresses, the data, and how a check is counted."""

import json
import sys

import numpy as np

ADDRESSES = json.loads(sys.argv[1])
MODEL, VERSION = "digits", "1.1.0"
done = 0


def check(condition, what):
    """Counts a check; the first that fails ends the run."""
    global done
    if not condition:
        sys.exit(f"FAILED: {what}")
    done += 1


def fails(call, *words):
    """The error of a call that must fail, in words that must contain these."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: every client has its own
        text = str(error)
        for word in words:
            check(word in text, f"{word!r} is not in {text!r}")
        return error
    sys.exit(f"FAILED: no error, where {words} was expected")


def images(rows):
    """Pixels from 0 to 16, always the same."""
    return np.random.default_rng(5).integers(0, 17, (rows, 64)).astype(np.float32)


# One row of every element type, as the echo model takes it.
SAMPLES = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -65504]], np.float16),
    "FP32": np.array([[0.1, -3e38]], np.float32),
    "FP64": np.array([[0.1, -1e300]], np.float64),
    "BYTES": np.array([["tide".encode(), "gäte".encode()]], np.object_),
}


def finish(name):
    print(f"{name}: {done} checks passed")
