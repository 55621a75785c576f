"""exp, expm1, log1p, tanh and erfc of whole registers, written out for the compiler.

Numba calls the C library for one number at a time; here all lanes go together and nothing branches.
``arithmetic.py`` puts these functions behind NumPy's names. The methods are those of

    exp, expm1  P. T. P. Tang 1989, ACM TOMS 15, 144: 2^k e^r, with log 2 in two parts
    log1p       S. L. Moshier's Cephes: log u + c / u, where u = 1 + x is rounded and c what that lost
    erfc        M. M. Shepherd, J. G. Laframboise 1981, Math. Comp. 36, 249: one polynomial for all x >= 0

with series and coefficients of our own. An e^x smaller than 2^-125 (float64: 2^-1021) is taken for 0: a
subnormal number slows down every product it meets.
"""

import math
from decimal import Decimal

import numpy as np
from llvmlite import ir
from numba import types

from npnet.kernels.vectors.registers import I32, I64, call_llvm, llvm_name

__all__ = [
    "ERFC_FLOAT32",
    "ERFC_FLOAT64",
    "LOG_2",
    "ULP",
    "Register",
    "complementary_error_function",
    "emitter",
    "exponential",
    "exponential_minus_one",
    "hyperbolic_tangent",
    "logarithm_of_one_plus",
]

# The largest errors, in units in the last place of the result; without fused multiply-add, too. Measured on
# two million numbers of either dtype: 1.0, 1.9, 0.9, 2.5 and 3.8.
ULP = {"exp": 1.5, "expm1": 2.5, "log1p": 1.5, "tanh": 3, "erfc": 4.5}

LOG_2 = Decimal(2).ln()
# (1 + 9/8 a) e^(a^2) erfc a as a polynomial in (a - 3) / (a + 3), constant term first: through Chebyshev's
# points for a from 0 to 9.5 (relative error 2e-8) and to 27 (2e-17), where erfc is subnormal.
ERFC_FLOAT32 = (
    0.7831300529, -0.219014075, 0.08069628131, 0.007249843228, -0.03571300559, 0.02776338691,
    -0.01162935823, 0.001612489682, 0.001002658495, -0.0001250341162,
)  # fmt: skip
ERFC_FLOAT64 = (
    0.783130036418581, -0.21901405471390548, 0.08069787267533027, 0.007249679551187238,
    -0.03573763189706962, 0.027751546929928893, -0.01150316749471568, 0.001732421950239102,
    0.0008011737102113708, -0.00041885634520020057, -3.112755236924004e-05, 6.474131404023794e-05,
    -7.067499162345304e-07, -1.0377024027082542e-05, 1.377295942241578e-07, 1.8201273383344425e-06,
    9.540467617975871e-08, -3.2794759074587536e-07, -5.52680478349397e-08, 5.2005625274180574e-08,
    1.6028983912137093e-08, -5.101909254409125e-09, -2.259532055640016e-09,
)  # fmt: skip


class Register:
    """A register's numbers while code is written: operators write the instruction they stand for.

    The compiler may join a product with a sum, but not regroup: sums of large and small numbers live on
    their order.
    """

    def __init__(self, builder, kind, value):
        self.builder, self.kind, self.value = builder, kind, value
        self.single = kind.dtype == types.float32
        self.fraction, self.bias = (23, 127) if self.single else (52, 1023)  # of the number format

    def _value(self, operand):
        if isinstance(operand, Register):
            return operand.value
        return ir.Constant(self.value.type, [float(operand)] * self.kind.count)

    def _new(self, value):
        return Register(self.builder, self.kind, value)

    def _arithmetic(self, instruction, left, right):
        values = self._value(left), self._value(right)
        return self._new(getattr(self.builder, instruction)(*values, flags=("contract",)))

    def __add__(self, other):
        return self._arithmetic("fadd", self, other)

    def __sub__(self, other):
        return self._arithmetic("fsub", self, other)

    def __rsub__(self, other):
        return self._arithmetic("fsub", other, self)

    def __mul__(self, other):
        return self._arithmetic("fmul", self, other)

    def __truediv__(self, other):
        return self._arithmetic("fdiv", self, other)

    def __abs__(self):
        return self.call("fabs", self)

    __radd__, __rmul__ = __add__, __mul__

    def call(self, name, *operands):
        """A function of LLVM's."""
        values = [self._value(operand) for operand in operands]
        return self._new(call_llvm(self.builder, llvm_name(name, self.kind), self.value.type, values))

    def choose(self, sign, bound, then, otherwise):
        """``then`` where this compares so with ``bound``, else ``otherwise``, also for NaN."""
        condition = self.builder.fcmp_ordered(sign, self.value, self._value(bound))
        return self._new(self.builder.select(condition, self._value(then), self._value(otherwise)))

    def on_bits(self, *steps):
        """The numbers whose bits are these after integer instructions: ("shl", 3), ("add", -1), ..."""
        integers = ir.VectorType(I32 if self.single else I64, self.kind.count)
        bits = self.builder.bitcast(self.value, integers)
        for instruction, number in steps:
            constant = ir.Constant(integers, [int(number)] * self.kind.count)
            bits = getattr(self.builder, instruction)(bits, constant)
        return self._new(self.builder.bitcast(bits, self.value.type))

    def bits_of(self, number):
        """The bits of a number in this register's format, as an integer."""
        return np.float32(number).view(np.int32) if self.single else np.float64(number).view(np.int64)

    def log_2(self):
        """log 2 in two parts, the first with so few digits that its product with any exponent is exact."""
        digits = 9 if self.single else 32
        high = Decimal(round(LOG_2 * 2**digits)) / 2**digits
        return float(high), float(LOG_2 - high)


def emitter(function):
    """A function of registers in the form in which ``arithmetic.py`` defines functions."""
    return lambda context, builder, kind, value: function(Register(builder, kind, value)).value


def _polynomial(x, coefficients):
    """c0 + c1 x + c2 x^2 + ... by Horner's rule."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def _least(x):
    """The smallest x whose e^x is not taken for 0."""
    return (2 - x.bias) * math.log(2)


def _power(x, more=0.0):
    """(s, p) such that e^(x + more) = 2 s (1 + p): s = 2^(k-1), k = round(x / log 2), |p| < 1/2.

    ``more`` is small and may hold what x has lost by rounding. 2^(k-1) is a number where 2^k may be none.
    """
    high, low = x.log_2()
    largest = (x.bias + 1.4) * math.log(2)  # e^x overflows below it
    x = x.choose("<", _least(x), _least(x), x)
    x = x.choose(">", largest, largest, x)
    # Numbers near 1.5 2^fraction have no digits after the point: the sum is rounded to an integer, and its
    # last bits are those of the exponent of s.
    shift = 1.5 * 2**x.fraction + x.bias - 1
    shifted = x * (1 / math.log(2)) + shift
    k = shifted - shift
    r = x - k * high - k * low + more
    terms = 7 if x.single else 13
    p = r + r * r * _polynomial(r, [1 / math.factorial(n) for n in range(2, terms + 1)])
    return shifted.on_bits(("shl", x.fraction)), p


def exponential(x):
    """e^x"""
    s, p = _power(x)
    half = s * p + s
    return x.choose("<", _least(x), 0.0, half + half)


def exponential_minus_one(x):
    """e^x - 1, accurate where it is small"""
    s, p = _power(x)
    half = s * p + (s - 0.5)
    return x.call("copysign", half + half, x)


def hyperbolic_tangent(x):
    """tanh |x| = -t / (t + 2) with t = e^(-2|x|) - 1"""
    t = exponential_minus_one(abs(x) * -2.0)
    return x.call("copysign", t / (-2.0 - t), x)


def logarithm_of_one_plus(x):
    """log(1 + x) = k log 2 + log(1 + f) with 1 + x = 2^k (1 + f) and 1 + f from sqrt(1/2) to sqrt 2.

    log(1 + f) = 2 (s + s^3/3 + s^5/5 + ...) with s = f / (2 + f), and 2 s = f - s f.
    """
    u = 1.0 + x
    seen = u - x
    lost = (1.0 - seen) + (x - (u - seen))
    root = x.bits_of(math.sqrt(0.5))
    raised = u.on_bits(("add", x.bits_of(1.0) - root))  # its exponent is k
    exponent = raised.on_bits(("lshr", x.fraction), ("or_", x.bits_of(2.0**x.fraction)))
    k = exponent - (2.0**x.fraction + x.bias)
    f = raised.on_bits(("and_", 2**x.fraction - 1), ("add", root)) - 1.0
    s = f / (f + 2.0)
    square = s * s
    terms = 5 if x.single else 11
    rest = square * _polynomial(square, [2 / (2 * n + 1) for n in range(1, terms + 1)])
    high, low = x.log_2()
    y = k * high + (f - (s * (f - rest) - (k * low + lost / u)))
    y = x.call("copysign", y, x)
    y = x.choose(">", -1.0, y, x.choose("==", -1.0, -math.inf, math.nan))
    return x.choose("<", math.inf, y, x)


def complementary_error_function(x):
    """erfc |x| = e^(-x^2) p(q) / (1 + 9/8 |x|), and erfc(-x) = 2 - erfc x.

    x^2 = h^2 + (x-h)(x+h), where h, half of the digits of x, has a square without rounding.
    """
    end, coefficients = (9.5, ERFC_FLOAT32) if x.single else (27.0, ERFC_FLOAT64)
    a = abs(x)
    a = a.choose(">", end, end, a)
    h = a.on_bits(("and_", -1 << x.fraction // 2 + 1))
    s, p = _power(h * h * -1.0, (h - a) * (h + a))
    y = 2.0 * s * (1.0 + p) * _polynomial((a - 3.0) / (a + 3.0), coefficients) / (1.0 + 1.125 * a)
    y = (h * h).choose(">", -_least(x), 0.0, y)
    return x.choose("<", 0.0, 2.0 - y, y)
