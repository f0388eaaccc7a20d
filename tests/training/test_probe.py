import numpy as np

from flamingo_jax.training.probe import in_batches, knn_accuracy, retrieval_accuracy


def test_nearest_neighbours_vote():
    stored = np.array([[1.0, 0.0], [1, 0.1], [0, 1], [0.1, 1], [0, 2]])
    labels = ["a", "a", "b", "b", "b"]
    queries = np.array([[5.0, 0.2], [0.1, 3]])
    assert knn_accuracy(stored, labels, queries, ["a", "b"], k=3) == 1.0
    assert knn_accuracy(stored, labels, queries, ["a", "b"], k=5) == 0.5
    # One vote each: the nearer one's label wins.
    assert knn_accuracy(stored[1:3], ["a", "b"], queries, ["a", "b"], k=2) == 1.0


def test_retrieval_counts_the_better_ranked():
    image = np.eye(3)
    text = np.array([[1.0, 0, 0], [0, 0.5, 0.9], [0, 0.6, 0.1]])
    # The names of drawings 0, 1 and 2 rank 1st, 2nd and 2nd.
    assert retrieval_accuracy(image, text, 1) == 1 / 3
    assert retrieval_accuracy(image, text, 2) == 1.0


def test_in_batches_pads_and_cuts():
    seen = []

    def apply(factor, x):
        seen.append(len(x))
        return factor * x

    x = np.arange(14.0).reshape(7, 2)
    np.testing.assert_array_equal(in_batches(apply, 2.0, x, batch=4), 2 * x)
    assert seen == [4, 4]
