"""Every call of tritonclient.grpc that applies."""

import queue

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc

from common import ADDRESSES, MODEL, SAMPLES, VERSION, check, fails, finish, images

client = triton.InferenceServerClient(ADDRESSES["grpc"])


def digits(rows):
    tensor = InferInput("pixels", [len(rows), 64], "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


def describes_itself():
    check(client.is_server_live() and client.is_server_ready(), "live and ready")
    check(client.is_model_ready(MODEL) and client.is_model_ready(MODEL, VERSION), "model ready")
    check(not client.is_model_ready("cats"), "another model is not ready")
    server = client.get_server_metadata()
    check(server.name == "tidegate-agent" and "statistics" in server.extensions, "server metadata")
    model = client.get_model_metadata(MODEL, VERSION)
    check(list(model.versions) == [VERSION], "model metadata")
    check(list(model.inputs[0].shape) == [-1, 64], "input metadata")
    config = client.get_model_config(MODEL).config
    check(config.input[0].data_type == 11 and list(config.input[0].dims) == [64], "config")
    check(config.max_batch_size > 0, "largest batch")
    as_json = client.get_model_metadata(MODEL, as_json=True)
    check(as_json["name"] == MODEL, "metadata as JSON")
    error = fails(lambda: client.get_model_metadata("cats"), "no model")
    check(error.status() == "StatusCode.NOT_FOUND", "not found")


def index_and_statistics():
    index = {line.name: line for line in client.get_model_repository_index().models}
    check(index[MODEL].version == VERSION and index[MODEL].state == "READY", "index")
    before = client.get_inference_statistics(MODEL).model_stats[0]
    client.infer(MODEL, digits(images(3)))
    after = client.get_inference_statistics(MODEL, VERSION).model_stats[0]
    check(after.inference_count == before.inference_count + 3, "inference count")
    check(after.inference_stats.success.count == before.inference_stats.success.count + 1, "count")
    check(len(client.get_inference_statistics().model_stats) == 2, "statistics of all")
    error = fails(lambda: client.load_model(MODEL), "rollout")
    check(error.status() == "StatusCode.PERMISSION_DENIED", "permission denied")
    fails(lambda: client.unload_model(MODEL), "rollout")


def infers():
    rows = images(5)
    expected = client.infer(MODEL, digits(rows)).as_numpy("probabilities")
    check(expected.shape == (5, 10) and np.allclose(expected.sum(axis=1), 1, atol=1e-4), "answer")
    for coding in (None, "gzip", "deflate"):
        for outputs in (None, [InferRequestedOutput("probabilities")]):
            result = client.infer(
                MODEL,
                digits(rows),
                model_version=VERSION,
                outputs=outputs,
                request_id="r 1",
                compression_algorithm=coding,
                client_timeout=10,
                timeout=10_000_000,
            )
            about = result.get_response()
            check(about.id == "r 1" and about.model_version == VERSION, "id and version")
            check(np.array_equal(result.as_numpy("probabilities"), expected), f"{coding}")
    outputs = [InferRequestedOutput("probabilities", class_count=2)]
    top = client.infer(MODEL, digits(rows[:1]), outputs=outputs).as_numpy("probabilities")
    check(int(top[0][0].decode().split(":")[1]) == expected[0].argmax(), "classification")
    answers = queue.Queue()
    for _ in range(10):
        client.async_infer(MODEL, digits(rows), lambda result, error: answers.put((result, error)))
    for _ in range(10):
        result, error = answers.get(timeout=30)
        check(error is None, f"asynchronous: {error}")
        check(np.array_equal(result.as_numpy("probabilities"), expected), "asynchronous answer")


def streams():
    rows, answers = images(10), queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for place in range(10):
        client.async_stream_infer(MODEL, digits(rows[place : place + 1]), request_id=str(place))
    client.async_stream_infer("cats", digits(rows[:1]), request_id="lost")
    client.async_stream_infer(MODEL, digits(rows[:1]), request_id="last")
    for place in [str(place) for place in range(10)] + ["lost", "last"]:
        result, error = answers.get(timeout=30)
        if place == "lost":
            check("no model" in str(error), "an error does not end the stream")
        else:
            check(error is None and result.get_response().id == place, "in order")
    client.stop_stream()


def every_element_type():
    inputs = []
    for datatype, values in SAMPLES.items():
        tensor = InferInput(f"in_{datatype}", [1, 2], datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    result = client.infer("echo", inputs)
    for datatype, values in SAMPLES.items():
        check(np.array_equal(result.as_numpy(f"out_{datatype}"), values), datatype)


FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def typed_contents():
    """What tritonclient never sends, and other clients do."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(ADDRESSES["grpc"]))
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="pixels", datatype="FP32", shape=[1, 64]
    )
    tensor.contents.fp32_contents.extend(images(1)[0].tolist())
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="typed", inputs=[tensor])
    answer = stub.ModelInfer(request)
    check(answer.id == "typed" and not answer.raw_output_contents, "typed in, typed out")
    expected = client.infer(MODEL, digits(images(1))).as_numpy("probabilities")[0]
    got = np.array(answer.outputs[0].contents.fp32_contents, np.float32)
    check(np.array_equal(got, expected), "typed answer")
    request = service_pb2.ModelInferRequest(model_name="echo")
    for datatype, values in SAMPLES.items():
        tensor = request.inputs.add(name=f"in_{datatype}", datatype=datatype, shape=[1, 2])
        if datatype in FIELDS:
            getattr(tensor.contents, FIELDS[datatype]).extend(values[0].tolist())
    error = fails(lambda: stub.ModelInfer(request), "in_FP16", "raw_input_contents")
    check(error.code() == grpc.StatusCode.INVALID_ARGUMENT, "invalid argument")
    del request.inputs[0].contents.bool_contents[:]
    fails(lambda: stub.ModelInfer(request), "in_BOOL", "0 values")


def says_what_is_wrong():
    rows = images(1)
    error = fails(lambda: client.infer("cats", digits(rows)), "no model")
    check(error.status() == "StatusCode.NOT_FOUND", "not found")
    wrong = InferInput("pixels", [1, 32], "FP32")
    wrong.set_data_from_numpy(rows[:, :32])
    error = fails(lambda: client.infer(MODEL, [wrong]), "[1, 32]", "[-1, 64]")
    check(error.status() == "StatusCode.INVALID_ARGUMENT", "invalid argument")
    fails(lambda: client.infer(MODEL, digits(images(10_000))), "too large", "1048576")
    check(client.is_server_live(), "goes on")


describes_itself()
index_and_statistics()
infers()
streams()
every_element_type()
typed_contents()
says_what_is_wrong()
client.close()
finish("tritonclient.grpc")
