import math

import numpy as np
import pytest

from raydistill.records import pareto

MIN2 = ("min", "min")
MIXED = ("min", "max")
HAND = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0], [3.0, 4.0], [5.0, 5.0], [2.0, 3.0]])
REFERENCE = np.array([6.0, 6.0])


def dominates(a, b):
    return bool((a <= b).all() and (a < b).any())


def test_hypervolume_of_zdt1_is_two_thirds():
    x = np.linspace(0, 1, 20_001)
    assert pareto.hypervolume(np.stack([x, 1 - np.sqrt(x)], axis=1), MIN2, (1, 1)) == pytest.approx(
        2 / 3, abs=1e-4
    )


def test_hypervolume_of_zdt2_is_one_third():
    x = np.linspace(0, 1, 20_001)
    assert pareto.hypervolume(np.stack([x, 1 - x**2], axis=1), MIN2, (1, 1)) == pytest.approx(1 / 3, abs=1e-4)


def test_hypervolume_of_dtlz2_in_three_dimensions_is_one_minus_an_eighth_of_the_ball():
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi / 2, 150), np.linspace(0, np.pi / 2, 150))
    sphere = np.stack(
        [np.cos(polar) * np.cos(azimuth), np.cos(polar) * np.sin(azimuth), np.sin(polar)], axis=-1
    ).reshape(-1, 3)
    assert pareto.hypervolume(sphere, ("min",) * 3, (1, 1, 1)) == pytest.approx(1 - math.pi / 6, abs=1e-2)


def test_hypervolume_of_dtlz1_in_three_dimensions_is_five_forty_eighths():
    a, b = np.meshgrid(np.linspace(0, 1, 150), np.linspace(0, 1, 150))
    plane = 0.5 * np.stack([a * b, a * (1 - b), 1 - a], axis=-1).reshape(-1, 3)
    assert pareto.hypervolume(plane, ("min",) * 3, (0.5, 0.5, 0.5)) == pytest.approx(5 / 48, abs=1e-3)


def test_hand_case_has_the_members_ranks_volume_and_contributions_counted_on_paper():
    np.testing.assert_array_equal(pareto.members(HAND, MIN2), [True, True, True, False, False, True])
    np.testing.assert_array_equal(pareto.ranks(HAND, MIN2), [0, 0, 0, 1, 2, 0])
    assert pareto.hypervolume(HAND, MIN2, REFERENCE) == 5 * 1 + 4 * 2 + 2 * 2
    np.testing.assert_allclose(pareto.contributions(HAND[:5], MIN2, REFERENCE), [1, 4, 4, 0, 0])


def test_duplicates_are_all_members_and_contribute_nothing():
    np.testing.assert_allclose(pareto.contributions(HAND, MIN2, REFERENCE), [1, 0, 4, 0, 0, 0])
    assert pareto.hypervolume(HAND, MIN2, REFERENCE) == pareto.hypervolume(HAND[:5], MIN2, REFERENCE)


def test_a_max_objective_is_the_negated_min_objective():
    turned, reference = HAND * [1, -1], REFERENCE * [1, -1]
    np.testing.assert_array_equal(pareto.members(turned, MIXED), pareto.members(HAND, MIN2))
    np.testing.assert_array_equal(pareto.ranks(turned, MIXED), pareto.ranks(HAND, MIN2))
    np.testing.assert_array_equal(pareto.dominators(turned, MIXED), pareto.dominators(HAND, MIN2))
    np.testing.assert_allclose(
        pareto.contributions(turned, MIXED, reference), pareto.contributions(HAND, MIN2, REFERENCE)
    )
    assert pareto.hypervolume(turned, MIXED, reference) == pareto.hypervolume(HAND, MIN2, REFERENCE)
    assert pareto.knee(turned, MIXED, reference) == pareto.knee(HAND, MIN2, REFERENCE)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_members_ranks_and_contributions_match_their_definitions(m):
    points = np.random.default_rng(m).integers(0, 6, (30, m)).astype(float)
    directions, reference = ("min",) * m, np.full(m, 5.0)
    member = np.array([not any(dominates(other, point) for other in points) for point in points])
    np.testing.assert_array_equal(pareto.members(points, directions), member)
    ranks = pareto.ranks(points, directions)
    for rank in range(ranks.max() + 1):
        left = points[ranks >= rank]
        np.testing.assert_array_equal(pareto.members(left, directions), ranks[ranks >= rank] == rank)
    whole, loss = pareto.hypervolume(points[member], directions, reference), np.zeros(len(points))
    for index in np.flatnonzero(member):
        rest = np.delete(points, index, axis=0)[np.delete(member, index)]
        loss[index] = whole - pareto.hypervolume(rest, directions, reference)
    np.testing.assert_allclose(pareto.contributions(points, directions, reference), loss, atol=1e-9)


def test_order_of_the_points_does_not_matter():
    rng = np.random.default_rng(0)
    points, directions, reference = rng.random((40, 3)), ("min", "max", "min"), (0.9, 0.1, 0.9)
    order = rng.permutation(len(points))
    for function in (pareto.members, pareto.ranks):
        np.testing.assert_array_equal(
            function(points[order], directions), function(points, directions)[order]
        )
    np.testing.assert_allclose(
        pareto.contributions(points[order], directions, reference),
        pareto.contributions(points, directions, reference)[order],
    )
    assert pareto.hypervolume(points[order], directions, reference) == pytest.approx(
        pareto.hypervolume(points, directions, reference)
    )
    assert order[pareto.knee(points[order], directions, reference)] == pareto.knee(
        points, directions, reference
    )


def test_points_worse_than_the_reference_add_no_volume():
    beyond = np.array([[0.0, 7.0], [7.0, 0.0], [6.0, 0.5]])
    assert pareto.hypervolume(beyond, MIN2, REFERENCE) == 0
    np.testing.assert_array_equal(pareto.contributions(beyond, MIN2, REFERENCE), [0, 0, 0])
    assert pareto.hypervolume(np.vstack([HAND, beyond]), MIN2, REFERENCE) == pareto.hypervolume(
        HAND, MIN2, REFERENCE
    )


def test_dominators_name_the_lowest_member_that_dominates_and_minus_one_for_members():
    np.testing.assert_array_equal(pareto.dominators(HAND, MIN2), [-1, -1, -1, 1, 0, -1])


def test_every_dominator_is_a_member_that_dominates():
    points = np.random.default_rng(1).random((50, 3))
    directions = ("min",) * 3
    found, member = pareto.dominators(points, directions), pareto.members(points, directions)
    np.testing.assert_array_equal(found == -1, member)
    for index in np.flatnonzero(~member):
        assert member[found[index]] and dominates(points[found[index]], points[index])


def test_the_knee_is_the_member_farthest_in_front_of_the_line_between_the_ends():
    assert pareto.knee([[0, 10], [1, 4], [4, 1], [10, 0], [3, 9]], MIN2, (11, 11)) == 1
    assert pareto.knee([[0, 10], [4, 1], [1, 4.5], [10, 0]], MIN2, (11, 11)) == 1


def test_equal_knees_go_to_the_lowest_index():
    assert pareto.knee([[4, 1], [1, 4], [0, 10], [10, 0]], MIN2, (11, 11)) == 0


def test_members_outside_the_reference_do_not_move_the_knee():
    front = [[0.0, 10.0], [1, 4], [4, 1], [10, 0]]
    assert pareto.knee([*front, [-1e6, 12]], MIN2, (11, 11)) == pareto.knee(front, MIN2, (11, 11))


def test_a_member_at_the_reference_is_no_knee():
    """It is not better than the reference, so it adds no volume either."""
    front = [[0.0, 10.0], [3, 3], [4, 2], [10, 0]]
    assert pareto.knee(front, MIN2, (10, 10)) == 1
    assert pareto.knee([[2.0, 10.0], [3, 9], [4, 8]], MIN2, (4, 10)) == 1
    with pytest.raises(ValueError, match="no knee"):
        pareto.knee([[4.0, 10.0]], MIN2, (4, 10))


def test_an_objective_in_which_all_members_agree_does_not_count():
    with np.errstate(all="raise"):
        assert pareto.knee([[0, 10, 7], [4, 1, 7], [1, 4.5, 7], [10, 0, 7]], ("min",) * 3, (11, 11, 11)) == 1
        assert pareto.knee([[2, 2], [2, 2]], MIN2, (11, 11)) == 0


def test_the_knee_is_the_farthest_by_a_loop_over_scaled_members():
    """Of three objectives: 1 - the sum of what each is scaled to between the front's best and worst."""
    directions, reference = ("min", "max", "min"), (0.8, 0.2, 0.9)
    unit = np.abs(np.random.default_rng(5).normal(size=(40, 3)))
    points = np.abs([1, 0, 1] - unit / np.linalg.norm(unit, axis=1, keepdims=True))
    inside = [
        index
        for index in np.flatnonzero(pareto.members(points, directions))
        if points[index][0] < 0.8 and points[index][1] > 0.2 and points[index][2] < 0.9
    ]
    assert 3 < len(inside) < pareto.members(points, directions).sum()
    ends = [(min(column), max(column)) for column in points[inside].T]

    def in_front(point):
        shares = [(value - low) / (high - low) for value, (low, high) in zip(point, ends)]
        return 1 - (shares[0] + (1 - shares[1]) + shares[2])

    assert pareto.knee(points, directions, reference) == max(
        inside, key=lambda index: in_front(points[index])
    )


def test_one_member_is_its_own_knee():
    assert pareto.knee([[3, 3], [1, 1]], MIN2, (6, 6)) == 1


def test_no_knee_without_a_point_inside_the_reference():
    with pytest.raises(ValueError, match="no knee"):
        pareto.knee([[7, 7]], MIN2, REFERENCE)


def test_no_points_is_a_front_without_volume():
    empty = np.empty((0, 2))
    assert pareto.members(empty, MIXED).shape == pareto.ranks(empty, MIXED).shape == (0,)
    assert pareto.dominators(empty, MIXED).shape == pareto.contributions(empty, MIXED, (1, 0)).shape == (0,)
    assert pareto.hypervolume(empty, MIXED, (1, 0)) == 0
    with pytest.raises(ValueError, match="no knee"):
        pareto.knee(empty, MIXED, (1, 0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        pareto.members([[1, value]], MIN2)
    with pytest.raises(ValueError, match="finite"):
        pareto.hypervolume([[1, 1]], MIN2, (1, value))


@pytest.mark.parametrize("points", [[1, 2], [[1, 2, 3]], [], [[[1, 2]]]])
def test_points_of_another_shape_are_refused(points):
    with pytest.raises(ValueError, match="one column per direction"):
        pareto.ranks(points, MIN2)


def test_one_objective_an_unknown_direction_and_a_short_reference_are_refused():
    with pytest.raises(ValueError, match="m >= 2"):
        pareto.members([[1]], ("min",))
    with pytest.raises(ValueError, match="'min' or 'max'"):
        pareto.members([[1, 2]], ("min", "down"))
    with pytest.raises(ValueError, match="one number per direction"):
        pareto.hypervolume([[1, 2]], MIN2, (1,))
