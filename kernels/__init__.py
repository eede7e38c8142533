"""The generator's hot operators: plain PyTorch definitions that faster versions must agree with."""
