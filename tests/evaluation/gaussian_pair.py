"""Two correlated Gaussians in the plane whose distances are known in closed form."""

import numpy as np

FIRST = np.array([[1.0, 0.5], [0.5, 1.0]])
SECOND = np.array([[2.0, -0.3], [-0.3, 0.5]])
SHIFT = np.array([1.0, -1.0])


def gaussian_pair(n, seed):
    generator = np.random.default_rng(seed)
    x = generator.multivariate_normal(np.zeros(2), FIRST, n)
    y = generator.multivariate_normal(SHIFT, SECOND, n)
    return x, y
