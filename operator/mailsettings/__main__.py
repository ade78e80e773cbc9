"""The command line: run the operator, or render what is made from the models."""
