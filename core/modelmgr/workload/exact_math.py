"""Logarithm and exponential from additions, multiplications and divisions alone, on arrays.

IEEE 754 says what those give, to the last bit; it does not for ``log`` and ``exp``, which differ
between C libraries, and in numpy between processors. With these, a seed gives the same traffic on
every machine. Both are within one unit in the last place: Sun's fdlibm, ``e_log.c`` and
``e_exp.c`` (https://www.netlib.org/fdlibm/), whose constants these are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_SQRT_HALF = 0.7071067811865476
_EXP_BOUND = 700.0
"""Beyond it a result would be no normal number; nobody waits for e^700 ns."""


def log(x: FloatArray) -> FloatArray:
    """Return natural logarithms of normal numbers above 0."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    k = exponent - low
    f = np.where(low, mantissa + mantissa, mantissa) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (_LOG[1] + w * (_LOG[3] + w * _LOG[5]))
    odd = z * (_LOG[0] + w * (_LOG[2] + w * (_LOG[4] + w * _LOG[6])))
    half = 0.5 * f * f
    result: FloatArray = k * _LN2_HIGH - ((half - (s * (half + odd + even) + k * _LN2_LOW)) - f)
    return result


def exp(x: FloatArray) -> FloatArray:
    """Return e to the power of numbers; below -700 and above 700 as for these."""
    x = np.clip(x, -_EXP_BOUND, _EXP_BOUND)
    k = np.rint(x * 1.44269504088896338700)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (_EXP[0] + t * (_EXP[1] + t * (_EXP[2] + t * (_EXP[3] + t * _EXP[4]))))
    y = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    return np.ldexp(y, k.astype(np.int64))
