"""The corners in which loss functions of other libraries have gone wrong, by number: one test each.

The numbers are those of a list of their issues. Elsewhere: T26 is `check_gradient`, which computes in double
(test_gradcheck); T42 to T44, forks, threads and bits that do not depend on them, stand in test_threads and
test_determinism, and that no parallel loop is compiled in, in test_kernels; T35 is about estimators.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import minnet
from minnet import functional as F

INF = math.inf
Z = np.random.default_rng(0).normal(size=(4, 3))
Y, W = np.array([0, 2, 1, 2]), np.array([0.5, 2.0, 1.5])
bce = F.binary_cross_entropy_with_logits


def ce(z, y, **options):
    return F.cross_entropy(np.asarray(z), y, return_grad=True, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, W], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_t1_an_ignored_row_counts_as_if_it_were_not_there(smoothing, weight, reduction):
    options = {"label_smoothing": smoothing, "weight": weight, "reduction": reduction}
    value, grad = ce(Z[:2], [0, -100], **options)
    want, want_grad = ce(Z[:1], [0], **options)
    np.testing.assert_array_equal(np.sum(value), np.sum(want))
    np.testing.assert_array_equal(grad, [want_grad[0], [0, 0, 0]])


@pytest.mark.parametrize("ignored", [-100, -1, 7, 2**40])
def test_t2_weights_are_not_looked_up_at_an_ignored_label(ignored):
    value = ce(Z[:2], [1, ignored], weight=W, ignore_index=ignored)[0]
    assert value == ce(Z[:1], [1], weight=W)[0]


def test_t3_labels_and_their_one_hot_rows_differ_in_the_divisor_alone():
    options = {"weight": W, "label_smoothing": 0.3}
    labels, rows = (ce(Z, t, reduction="none", **options) for t in (Y, np.eye(3)[Y]))
    np.testing.assert_allclose(labels[0], rows[0], rtol=1e-15)
    np.testing.assert_allclose(labels[1], rows[1], rtol=1e-14, atol=1e-16)
    assert ce(Z, Y, **options)[0] == pytest.approx(labels[0].sum() / W[Y].sum(), rel=1e-15)
    assert ce(Z, np.eye(3)[Y], **options)[0] == pytest.approx(labels[0].sum() / 4, rel=1e-15)


def test_t4_an_ignored_class_stays_in_the_softmax_of_other_rows():
    assert ce(Z, Y, ignore_index=2)[0] == ce(Z[[0, 2]], Y[[0, 2]])[0]
    assert ce(Z[:1], [0], ignore_index=2)[0] > ce(Z[:1, :2], [0])[0]


def test_t5_unreduced_losses_of_ignored_rows_are_0_and_a_mean_is_over_the_others():
    each = ce(Z, [0, -100, 1, -100], reduction="none")[0]
    assert (each == 0).tolist() == [False, True, False, True]
    assert ce(Z, [0, -100, 1, -100])[0] == pytest.approx(each.sum() / 2, rel=1e-15)


def test_t6_an_upstream_gradient_is_one_a_row():
    upstream = np.array([2.0, 0, -1, 0.5])
    plain, scaled = ce(Z, Y, reduction="none"), ce(Z, Y, reduction="none", grad_output=upstream)
    np.testing.assert_array_equal(scaled[0], plain[0])
    np.testing.assert_allclose(scaled[1], plain[1] * upstream[:, None], rtol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_t7_t8_t9_nothing_that_counts_costs_0(reduction):
    none = {"ignored": (Z, [-100] * 4, {}), "empty": (Z[:0], [], {}), "weights": (Z, Y, {"sample_weight": np.zeros(4)})}
    for z, y, options in none.values():
        value, grad = ce(z, np.array(y, int), reduction=reduction, **options)
        assert value == 0
        assert grad.shape == z.shape
        assert not grad.any()


def test_t10_a_share_of_0_on_a_logit_of_minus_infinity_adds_0():
    rows = [[-INF, 0, 0], [-INF, 0, 0], [-INF, 0, -INF]]
    values, grad = ce(rows, [[0, 0.5, 0.5], [0.4, 0.3, 0.3], [0, 1, 0]], reduction="none")
    assert values.tolist() == [math.log(2), INF, 0]
    assert np.isfinite(grad).all()


def test_t11_smoothing_puts_a_share_on_a_logit_of_minus_infinity():
    assert ce([[-INF, 0.0, 0]], [1], label_smoothing=0.1)[0] == INF


def test_t12_a_row_of_minus_infinity_is_nan():
    assert math.isnan(ce([[-INF, -INF]], [0])[0])
    assert np.isnan(F.softmax([[-INF, -INF]])).all()


@pytest.mark.parametrize("bad", [np.nan, INF, -INF])
@pytest.mark.parametrize("classes", [3, 100])
def test_t13_an_ignored_row_may_hold_anything(bad, classes):
    z = np.zeros((2, classes))
    z[1] = bad
    value, grad = ce(z, [0, -100], reduction="sum")
    assert value == ce(z[:1], [0], reduction="sum")[0]
    assert not grad[1].any()


def test_t14_binary_cross_entropy_at_infinity_has_its_limits():
    value, grad = bce([-INF, INF, INF, -INF], [0, 1, 0, 1], reduction="none", return_grad=True)
    assert value.tolist() == [0, 0, INF, INF]
    assert grad.tolist() == [0, 0, 1, -1]


def test_t15_pos_weight_does_not_overflow():
    assert bce([-120.0], [1], pos_weight=3) == pytest.approx(360, rel=1e-15)
    assert bce(np.float32([-120]), [1], pos_weight=3) == pytest.approx(360, rel=1e-6)


def test_t16_the_gradient_at_0_is_a_half():
    assert bce([0.0, 0.0], [0, 1], reduction="sum", return_grad=True)[1].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("z", [1e3, -1e3, 1e20, -1e20])
@pytest.mark.parametrize("t", [0, 1])
def test_t17_binary_cross_entropy_far_out(z, t):
    value, grad = bce([z], [t], return_grad=True)
    wrong = (z > 0) != (t == 1)
    assert (value, grad[0]) == (abs(z) * wrong, np.sign(z) * wrong)
    assert bce([z], [t]) == value


def test_t18_a_sigmoid_far_out_raises_no_floating_point_error():
    with np.errstate(all="raise"):
        assert F.sigmoid(np.float32([-200, -88, 88, 200]))[[0, 3]].tolist() == [0, 1]


@pytest.mark.parametrize(("gap", "dtype"), [(17, np.float32), (80, np.float32), (40, np.float64), (700, np.float64)])
def test_t19_t21_a_confident_row_keeps_its_digits_and_its_gradient_sums_to_0(gap, dtype):
    value, grad = ce(np.array([[gap, 0, 0]], dtype), [0])
    exact = math.log1p(2 * math.exp(-gap))
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(exact, rel=4 * eps)
    assert grad[0, 0] == pytest.approx(-exact, rel=4 * eps)
    assert abs(math.fsum(grad[0])) <= max(2 * eps * exact, 5e-324)


def test_t20_the_binary_gradient_keeps_its_digits():
    assert bce(np.float32([17]), [1], return_grad=True)[1][0] == pytest.approx(-4.139937e-08, rel=1e-6)


@pytest.mark.parametrize("v", [0, 1e4, -1e8, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_t22_a_common_offset_changes_nothing(v, dtype):
    assert ce(np.array([[v, v]], dtype), [0])[0] == math.log(2)


def test_t23_each_row_has_its_own_maximum():
    z = np.array([[0.0, 1], [1e4, 1e4 + 1], [-1e4, 1 - 1e4]])
    np.testing.assert_allclose(F.softmax(z), np.tile(F.softmax(z[:1]), (3, 1)), rtol=1e-15)


def test_t24_nothing_is_clipped():
    p = F.sigmoid(-50.0)
    assert F.binary_cross_entropy([p], [1]) == pytest.approx(50, rel=1e-15)
    assert F.binary_cross_entropy([0.0], [1]) == INF
    assert bce([-50.0], [1], return_grad=True)[1][0] == pytest.approx(-1, rel=1e-15)


def test_t25_losses_of_float32_are_summed_in_double():
    rows = 2**20
    z = np.tile(np.float32([[0, 9]]), (rows, 1))
    assert ce(z, np.ones(rows, int), reduction="sum")[0] == pytest.approx(rows * math.log1p(math.exp(-9)), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("gap", [0.0, 40.0, 100.0, 800.0, -100.0])
def test_t27_focal_gradients_are_finite_everywhere(gamma, gap):
    value, grad = ce([[gap, 0.0]], [0], gamma=gamma)
    assert math.isfinite(value)
    assert np.isfinite(grad).all()
    binary, binary_grad = bce([gap], [1], gamma=gamma, return_grad=True)
    assert math.isfinite(binary)
    assert np.isfinite(binary_grad).all()
    if gamma == 0:
        assert (value, grad.tolist()) == (ce([[gap, 0.0]], [0])[0], ce([[gap, 0.0]], [0])[1].tolist())


@pytest.mark.parametrize("label", [3, 2**40, -1, -2, -101, 1.5])
def test_t28_t29_t30_no_label_out_of_range_is_used(label):
    with pytest.raises(ValueError, match=f"^cross_entropy: labels must .*got {label} in row 1"):
        ce(Z[:2], [0, label])


@pytest.mark.parametrize("rows", [1, 5, 31, 33])
@pytest.mark.parametrize("classes", [1, 5, 7, 63, 65, 70])
def test_t31_padding_takes_no_part(rows, classes, rng):
    z, y = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    value, grad = ce(z, y, reduction="none")
    alone = [ce(z[i : i + 1], y[i : i + 1], reduction="none") for i in range(rows)]
    np.testing.assert_array_equal(value, [one[0][0] for one in alone])
    np.testing.assert_array_equal(grad, [one[1][0] for one in alone])


def test_t32_kernels_count_in_words_of_the_machine():
    names = ["_activations.pyx", "_softmax.pyx", "_cross_entropy.pyx", "_elementwise.pyx", "_updates.pyx", "_rows.pxd"]
    loops = "".join(Path(minnet.__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    assert "Py_ssize_t i" in loops
    assert re.findall(r"\b(?:int|long|unsigned|int32_t) (?:i|j|k|n|block|classes|rows|columns|start)\b", loops) == []


@pytest.mark.parametrize("t", [2.0, -0.1, np.nan])
def test_t33_a_target_outside_0_and_1_is_refused(t):
    with pytest.raises(ValueError, match=f"^binary_cross_entropy_with_logits: target must be in .*got {t} in row 0"):
        bce([0.0], [t])


def test_t34_a_weight_below_0_is_refused():
    with pytest.raises(ValueError, match=r"^cross_entropy: weight must be finite and not negative, got -1\.0 in row 1"):
        ce(Z, Y, weight=[1, -1, 1])


def test_t36_t38_t39_strided_read_only_and_misaligned_arrays_are_taken():
    want = ce(Z, Y)
    strided = np.zeros((4, 6))[:, ::2]
    strided[...] = Z
    frozen = Z.copy()
    frozen.flags.writeable = False
    crooked = np.frombuffer(b"\0" + Z.tobytes(), np.uint8)[1:].view(np.float64).reshape(Z.shape)
    assert not crooked.flags.aligned
    for z in (strided, frozen, crooked, np.asfortranarray(Z)):
        value, grad = ce(z, Y)
        assert value == want[0]
        np.testing.assert_array_equal(grad, want[1])


def test_t37_an_upstream_gradient_may_be_one_number_spread_out():
    spread = ce(Z, Y, reduction="none", grad_output=np.broadcast_to(2.0, 4))[1]
    np.testing.assert_array_equal(spread, 2 * ce(Z, Y, reduction="none")[1])


def test_t40_inputs_are_not_written_to():
    z, y = Z.copy(), Y.copy()
    grad = ce(z, y)[1]
    assert not np.shares_memory(grad, z)
    np.testing.assert_array_equal(z, Z)
    np.testing.assert_array_equal(y, Y)


def test_t41_sample_weights_are_one_a_row():
    with pytest.raises(ValueError, match=r"^binary_cross_entropy_with_logits: sample_weight must have shape"):
        bce(Z, np.zeros_like(Z), sample_weight=np.ones_like(Z))
    weighed = bce(Z, np.zeros_like(Z), sample_weight=[1, 0, 0, 0])
    assert weighed == pytest.approx(bce(Z[:1], np.zeros((1, 3))), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_t45_probabilities_may_be_subnormal(dtype):
    tiny = np.finfo(dtype).tiny
    p = F.softmax(np.array([[0, math.log(float(tiny)) - 3]], dtype))
    assert 0 < p[0, 1] < tiny


# ---- without a number ----


def test_a_large_unsigned_label_does_not_wrap_into_ignore_index():
    with pytest.raises(ValueError, match=f"labels must be in 0 ... 1, got {2**64 - 100} in row 0"):
        ce([[0.0, 1]], np.array([2**64 - 100], np.uint64))


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1e-60, 1e200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_does_not_depend_on_the_unit_of_weights(unit, dtype):
    z = Z.astype(dtype)
    want, want_grad = ce(z, Y)
    for options in ({"weight": np.full(3, unit)}, {"weight": np.full(3, unit), "sample_weight": np.full(4, unit)}):
        value, grad = ce(z, Y, **options)
        assert value == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(grad, want_grad, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_gradients_keep_the_digits_of_small_probabilities(gamma):
    mp = pytest.importorskip("mpmath").mp
    z, y = [18.614144139938393, 33.81931272174217, 55.78078529035804, 41.90710931767409], 0
    with mp.workprec(200):
        e = [mp.exp(mp.mpf(v)) for v in z]
        p = [v / mp.fsum(e) for v in e]
        u, cost = mp.fsum(p[1:]), -mp.log(p[y])
        pull = u**gamma * (1 + gamma * p[y] * cost / u)
        exact = [float(pull * (p[k] if k != y else -u)) for k in range(4)]
    np.testing.assert_allclose(ce([z], [y], gamma=gamma)[1][0], exact, rtol=8 * 2.3e-16 * max(gamma, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [5, 90])
@pytest.mark.parametrize("gamma", [1e-3, 0.3, 1.0, 1.7, 2.5, 4.9, 9.0])
def test_focal_shares_keep_their_digits_for_every_gamma(gamma, classes, dtype):
    # one-hot rows, so that nothing cancels: flat and peaked ones, the share at the maximum and elsewhere
    mp = pytest.importorskip("mpmath").mp
    z = (np.random.default_rng(5).normal(size=(6, classes)) * [[0.1], [1], [3], [9], [9], [25]]).astype(dtype)
    y = np.array([0, 1, 2, z[3].argmax(), 4, z[5].argmax()])
    losses, grad = ce(z, np.eye(classes, dtype=dtype)[y], gamma=gamma, reduction="none")
    with mp.workprec(200):
        for row, label, loss, slopes in zip(z.tolist(), y.tolist(), losses, grad, strict=True):
            e = [mp.exp(mp.mpf(v)) for v in row]
            p = [v / mp.fsum(e) for v in e]
            u, cost = mp.fsum(p[:label] + p[label + 1 :]), -mp.log(p[label])
            pull = u ** mp.mpf(gamma) * (1 + mp.mpf(gamma) * p[label] * cost / u)
            exact = [float(pull * (p[k] if k != label else -u)) for k in range(classes)]
            bound = {"rtol": 8 * np.finfo(dtype).eps * max(gamma, 1), "atol": np.finfo(dtype).tiny}
            np.testing.assert_allclose(loss, float(u ** mp.mpf(gamma) * cost), **bound)
            np.testing.assert_allclose(slopes, exact, **bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [5, 70])
@pytest.mark.parametrize("gamma", [0.0, 1.7, 2.0])
def test_certain_rows_pay_for_shares_elsewhere_alone(gamma, classes, dtype):
    z, t = np.zeros((4, classes), dtype), np.zeros((4, classes), dtype)
    z[:, 0] = z[3, 1] = np.inf
    t[0, 0], t[1], t[2, 0], t[3, :2] = 1, 1 / classes, 0.25, 0.5
    z[2, 2] = np.nan
    losses, grad = ce(z, t, gamma=gamma, reduction="none")
    np.testing.assert_allclose(losses, [0, np.inf, np.nan, 0.5**gamma * np.log(2)], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(grad[0], 0)
    np.testing.assert_allclose(grad[1], np.eye(classes)[0] - t[1], atol=1e-6)
    np.testing.assert_allclose(grad[3], 0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [3, 70])
def test_smoothing_takes_infinite_logits(classes, dtype):
    # a certain label still owes what it should share; one of weight 0 that is impossible owes nothing for itself
    z = np.zeros((2, classes), dtype)
    z[0, 0], z[1, 0] = np.inf, -np.inf
    loss, grad = ce(z[:1], [0], label_smoothing=0.1)
    assert loss == np.inf
    np.testing.assert_allclose(grad[0], [0.1 - 0.1 / classes, *[-0.1 / classes] * (classes - 1)], rtol=1e-6)
    weight = np.append(0, np.ones(classes - 1))
    loss, grad = ce(z[1:], [0], label_smoothing=0.1, weight=weight, reduction="sum")
    assert loss == pytest.approx(0.1 * (classes - 1) / classes * np.log(classes - 1))
    np.testing.assert_allclose(grad, 0, atol=1e-8)
