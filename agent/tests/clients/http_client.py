"""Every call of tritonclient.http that applies."""

import http.client
import socket

import numpy as np
import tritonclient.http as triton
from tritonclient.http import InferInput, InferRequestedOutput

from common import ADDRESSES, MODEL, SAMPLES, VERSION, check, fails, finish, images

client = triton.InferenceServerClient(ADDRESSES["http"], concurrency=4)


def digits(rows, binary=True):
    tensor = InferInput("pixels", [len(rows), 64], "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return [tensor]


def wanted(**options):
    return [InferRequestedOutput("probabilities", **options)]


def describes_itself():
    check(client.is_server_live(), "live")
    check(client.is_server_ready(), "ready")
    check(client.is_model_ready(MODEL), "model ready")
    check(client.is_model_ready(MODEL, VERSION), "version ready")
    check(not client.is_model_ready(MODEL, "9"), "another version is not ready")
    check(not client.is_model_ready("cats"), "another model is not ready")
    server = client.get_server_metadata()
    check(server["name"] == "tidegate-agent" and server["version"], "server metadata")
    check("binary_tensor_data" in server["extensions"], "extensions")
    for version in ("", VERSION):
        model = client.get_model_metadata(MODEL, version)
        check(model["name"] == MODEL and model["versions"] == [VERSION], "model metadata")
        check(model["inputs"][0]["shape"] == [-1, 64], "input metadata")
        config = client.get_model_config(MODEL, version)
        check(config["max_batch_size"] > 0 and config["input"][0]["dims"] == [64], "config")
    fails(lambda: client.get_model_metadata("cats"), "no model", "cats")
    fails(lambda: client.get_model_metadata(MODEL, "9"), "no version")


def index_and_statistics():
    index = {line["name"]: line for line in client.get_model_repository_index()}
    check(index[MODEL] == {"name": MODEL, "version": VERSION, "state": "READY"}, "index")
    before = client.get_inference_statistics(MODEL)["model_stats"][0]
    client.infer(MODEL, digits(images(3)))
    after = client.get_inference_statistics(MODEL, VERSION)["model_stats"][0]
    check(after["inference_count"] == before["inference_count"] + 3, "inference count")
    counts = [stats["inference_stats"]["success"]["count"] for stats in (before, after)]
    check(counts[1] == counts[0] + 1, "success count")
    check(len(client.get_inference_statistics()["model_stats"]) == 2, "statistics of all")
    fails(lambda: client.load_model(MODEL), "rollout")
    fails(lambda: client.unload_model(MODEL), "rollout")
    check(client.is_model_ready(MODEL), "still ready")


def infers_in_every_form():
    rows = images(5)
    expected = client.infer(MODEL, digits(rows)).as_numpy("probabilities")
    check(expected.shape == (5, 10) and np.allclose(expected.sum(axis=1), 1, atol=1e-4), "answer")
    for binary_in in (True, False):
        for outputs in (None, wanted(binary_data=True), wanted(binary_data=False)):
            for coding_in in (None, "gzip", "deflate"):
                for coding_out in (None, "gzip", "deflate"):
                    result = client.infer(
                        MODEL,
                        digits(rows, binary_in),
                        model_version=VERSION,
                        outputs=outputs,
                        request_id="r 1",
                        request_compression_algorithm=coding_in,
                        response_compression_algorithm=coding_out,
                    )
                    about = result.get_response()
                    check(about["id"] == "r 1" and about["model_name"] == MODEL, "id and name")
                    check(about["model_version"] == VERSION, "version")
                    answer = result.as_numpy("probabilities")
                    check(np.array_equal(answer, expected), f"{coding_in} {coding_out}")
    check("id" not in client.infer(MODEL, digits(rows)).get_response(), "no id, no null")
    # Large enough that the answer is compressed.
    many = client.infer(MODEL, digits(images(200)), response_compression_algorithm="gzip")
    check(many.as_numpy("probabilities").shape == (200, 10), "a large compressed answer")
    one = digits(rows[:1])
    top = client.infer(MODEL, one, outputs=wanted(class_count=2)).as_numpy("probabilities")
    check(top.shape == (1, 2), "classification")
    score, index, label = top[0][0].decode().split(":")
    check(int(index) == expected[0].argmax() and label == index, "class")
    check(np.float32(score) == expected[0].max(), "score")


def asynchronously():
    rows = images(20)
    expected = client.infer(MODEL, digits(rows)).as_numpy("probabilities")
    waiting = [client.async_infer(MODEL, digits(rows[i : i + 1]), request_id=str(i)) for i in range(20)]
    for place, request in enumerate(waiting):
        result = request.get_result()
        check(result.get_response()["id"] == str(place), "id of an asynchronous answer")
        check(np.allclose(result.as_numpy("probabilities")[0], expected[place]), "its answer")


def every_element_type():
    for binary in (True, False):
        inputs, outputs = [], []
        for datatype, values in SAMPLES.items():
            tensor = InferInput(f"in_{datatype}", [1, 2], datatype)
            # The client itself refuses halves in JSON.
            tensor.set_data_from_numpy(values, binary_data=binary or datatype == "FP16")
            inputs.append(tensor)
            outputs.append(InferRequestedOutput(f"out_{datatype}", binary_data=binary))
        result = client.infer("echo", inputs, outputs=outputs)
        for datatype, values in SAMPLES.items():
            echoed = result.as_numpy(f"out_{datatype}")
            if datatype == "BYTES" and not binary:
                values = np.array([[text.decode() for text in values[0]]], np.object_)
            check(np.array_equal(echoed, values), f"{datatype}, binary {binary}: {echoed}")


def says_what_is_wrong():
    rows = images(1)
    fails(lambda: client.infer("cats", digits(rows)), "no model")
    fails(lambda: client.infer(MODEL, digits(rows), model_version="9"), "no version")
    wrong = InferInput("image", [1, 64], "FP32")
    wrong.set_data_from_numpy(rows)
    fails(lambda: client.infer(MODEL, [wrong]), 'no input "image"', "pixels")
    wrong = InferInput("pixels", [1, 32], "FP32")
    wrong.set_data_from_numpy(rows[:, :32])
    fails(lambda: client.infer(MODEL, [wrong]), "[1, 32]", "[-1, 64]")
    wrong = InferInput("pixels", [1, 64], "FP64")
    wrong.set_data_from_numpy(rows.astype(np.float64))
    fails(lambda: client.infer(MODEL, [wrong]), "FP64", "FP32")
    named = [InferRequestedOutput("label")]
    fails(lambda: client.infer(MODEL, digits(rows), outputs=named), 'no output "label"')
    large = images(10_000)
    fails(lambda: client.infer(MODEL, digits(large)), "larger than", "body_kib_max")
    fails(
        lambda: client.infer(MODEL, digits(large), request_compression_algorithm="gzip"),
        "unpacked body is larger",
    )
    shared = InferInput("pixels", [1, 64], "FP32")
    shared.set_shared_memory("region", 256)
    fails(lambda: client.infer(MODEL, [shared]), "shared memory")
    result = client.infer(MODEL, digits(rows), timeout=10_000_000)
    check(result.as_numpy("probabilities").shape == (1, 10), "a long timeout")


def bodies_made_and_read_apart():
    rows = images(2)
    body, length = triton.InferenceServerClient.generate_request_body(digits(rows))
    connection = http.client.HTTPConnection(ADDRESSES["http"])
    headers = {"Inference-Header-Content-Length": str(length)}
    connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
    answer = connection.getresponse()
    length = answer.getheader("Inference-Header-Content-Length")
    parse = triton.InferenceServerClient.parse_response_body
    result = parse(answer.read(), header_length=int(length))
    check(result.as_numpy("probabilities").shape == (2, 10), "a body made apart")
    # Names are percent-decoded.
    connection.request("GET", "/v2/models/%64igits/versions/1%2E1.0/ready")
    check(connection.getresponse().status == 200, "percent-decoded")


def over_the_unix_socket():
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(ADDRESSES["unix"])
    body, length = triton.InferenceServerClient.generate_request_body(digits(images(1)))
    headers = {"Inference-Header-Content-Length": str(length)}
    connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
    check(connection.getresponse().status == 200, "over the Unix socket")


describes_itself()
index_and_statistics()
infers_in_every_form()
asynchronously()
every_element_type()
says_what_is_wrong()
bodies_made_and_read_apart()
over_the_unix_socket()
client.close()
finish("tritonclient.http")
