"""KServe's SDK server with ONNX Runtime.

    kserve_onnx.py NAME=FOLDER... --http_port PORT --enable_grpc false
"""

import argparse

import numpy as np
import onnxruntime
from kserve import InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.protocol.infer_type import InferOutput


class OnnxModel(Model):
    def __init__(self, name, file):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options)
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[-1].name
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy().astype(np.float32, copy=False)
        (y,) = self.session.run([self.output], {self.input: x})
        output = InferOutput(self.output, list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=False)
        return InferResponse(payload.id or "0", self.name, [output])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    models = [OnnxModel(*model.split("=", 1)) for model in arguments.models]
    ModelServer(workers=1, http_port=arguments.http_port, enable_grpc=False).start(models)
