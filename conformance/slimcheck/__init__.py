"""The judge: checks a quantized checkpoint directory against the specification."""
