"""Every call of kserve's InferenceRESTClient and InferenceGRPCClient that applies to v2."""

import asyncio

import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput

from common import ADDRESSES, MODEL, SAMPLES, check, finish, images

URL = f"http://{ADDRESSES['http']}"


def request(rows, binary, outputs=None, raw_out=None):
    tensor = InferInput("pixels", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    parameters = None if raw_out is None else {"binary_data_output": raw_out}
    return InferRequest(
        model_name=MODEL,
        infer_inputs=[tensor],
        request_id="q1",
        parameters=parameters,
        request_outputs=outputs,
    )


async def over_rest():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    check(await client.is_server_live(URL) is True, "live")
    check(await client.is_server_ready(URL) is True, "ready")
    check(await client.is_model_ready(URL, MODEL) is True, "model ready")
    check(await client.is_model_ready(URL, "cats") is False, "another model is not ready")
    rows, expected = images(3), None
    for binary in (False, True):
        for raw_out in (None, False, True):
            for outputs in (None, [RequestedOutput("probabilities")]):
                asked = request(rows, binary, outputs, raw_out)
                headers = {}
                answer = await client.infer(URL, asked, MODEL, response_headers=headers)
                check(answer.model_name == MODEL and answer.id == "q1", "name and id")
                values = answer.outputs[0].as_numpy()
                expected = values if expected is None else expected
                check(values.shape == (3, 10), "shape")
                check(np.allclose(values, expected, atol=1e-6), f"{binary} {raw_out}")
    plain = {"inputs": [{"name": "pixels", "shape": [3, 64], "datatype": "FP32",
                         "data": rows.tolist()}]}
    answer = await client.infer(URL, plain, MODEL)
    check(answer.id is None and np.allclose(answer.outputs[0].as_numpy(), expected), "a dictionary")
    inputs = []
    for datatype, values in SAMPLES.items():
        tensor = InferInput(f"in_{datatype}", [1, 2], datatype)
        tensor.set_data_from_numpy(values, binary_data=True)
        inputs.append(tensor)
    asked = InferRequest("echo", inputs, parameters={"binary_data_output": True})
    answer = await client.infer(URL, asked, "echo")
    for output, (datatype, values) in zip(answer.outputs, SAMPLES.items()):
        check(output.datatype == datatype, "datatype")
        if datatype not in ("BYTES", "FP16"):
            check(np.array_equal(output.as_numpy(), values), datatype)
    for bad, words in (({"inputs": []}, "missing"), ({}, "inputs")):
        try:
            await client.infer(URL, bad, MODEL)
            check(False, "no error")
        except Exception as error:  # noqa: BLE001
            check("400" in str(error) and words in str(error), str(error))
    await client.close()


async def over_grpc():
    client = InferenceGRPCClient(ADDRESSES["grpc"])
    check(await client.is_server_live() is True, "live")
    check(await client.is_server_ready() is True, "ready")
    check(await client.is_model_ready(MODEL) is True, "model ready")
    check(await client.is_model_ready("cats") is False, "another model is not ready")
    rows = images(2)
    for binary in (True, False):
        answer = await client.infer(request(rows, binary))
        check(answer.id == "q1" and answer.outputs[0].as_numpy().shape == (2, 10), "answer")
    await client.close()


asyncio.run(over_rest())
asyncio.run(over_grpc())
finish("kserve")
