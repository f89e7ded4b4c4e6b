"""What the gateway answers, one module a face: parse, call, render."""
