"""Parts of a calibration run: texts, folded weights, observers, smoothing, attention."""
