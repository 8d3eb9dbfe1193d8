"""The pieces of models/train.py: data set, fit, export, evaluation, shipping."""
