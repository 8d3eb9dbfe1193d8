//! The model: ONNX Runtime through `ort`, its manifest, and the parity gate.
