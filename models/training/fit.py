"""The model: boosted trees on log loss, whose scores are probabilities as they are."""

import sys

import lightgbm
import numpy as np

from .dataset import Dataset

# What a decision pays for: three times as many trees at a learning rate of 0.06 gain 0.01 of average precision and cost
# a row 4.5 us in place of 1.7.
MOST_TREES = 60
# No class weights and no resampling: either would make the scores something else than probabilities.
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.15,
    "min_data_in_leaf": 100,
    "min_sum_hessian_in_leaf": 1.0,
    "lambda_l2": 5.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 255,
    "metric": "binary_logloss",
    # The same rows give the same trees on every machine and number of cores.
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def train(data: Dataset, seed: int) -> lightgbm.Booster:
    """Trains on the first 80 % of the time and stops where the last 20 % no longer gain."""
    cut = int(len(data.fraud) * 0.8)
    print(f"training on {cut} rows of {len(data.features)} features, {int(data.fraud[:cut].sum())} of them fraud", file=sys.stderr)
    dataset = lightgbm.Dataset(data.matrix[:cut], data.fraud[:cut].astype(np.int8), feature_name=data.features)
    later = lightgbm.Dataset(data.matrix[cut:], data.fraud[cut:].astype(np.int8), reference=dataset)
    stop = lightgbm.early_stopping(20, verbose=False)
    parameters = PARAMETERS | {"seed": seed}
    booster = lightgbm.train(parameters, dataset, MOST_TREES, valid_sets=[later], callbacks=[stop])
    # Keep only the trees up to the best one; what is exported is what is used.
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
