"""ONNX Runtime alone, one thread, on windows that are in memory already: bundle, windows. Prints windows a second."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

BATCH = 64  # the fastest here: 95 us a window, 130 at 1024


def main() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(Path(sys.argv[1]) / "model.onnx", options, providers=["CPUExecutionProvider"])
    windows = np.load(sys.argv[2])
    session.run(None, {"values": windows[:BATCH]})
    began = time.perf_counter()
    for start in range(0, len(windows), BATCH):
        session.run(["hazard"], {"values": windows[start : start + BATCH]})
    print(json.dumps({"rate": len(windows) / (time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
