"""Saves an ONNX file as an MLflow model.

    mlflow_model.py MODEL.onnx FOLDER
"""

import sys

import mlflow.onnx
import onnx

mlflow.onnx.save_model(onnx.load(sys.argv[1]), sys.argv[2], pip_requirements=["onnxruntime"],
                       save_as_external_data=False)
