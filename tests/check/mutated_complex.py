"""Typical rules of complex numbers, for `mutated_rules`."""

import diptych

# Complex numbers ----------------------------------------------------------------------------------


@diptych.rule
def complex_product(z, w):
    return z * w


@complex_product.vjp
def complex_product_vjp(res, bar):
    xp = diptych.namespace(bar)
    return xp.conj(res.w) * bar, xp.conj(res.z) * bar


@diptych.rule
def squared_modulus(z):
    xp = diptych.namespace(z)
    return xp.real(z) ** 2 + xp.imag(z) ** 2


@squared_modulus.vjp
def squared_modulus_vjp(res, bar):
    return 2 * res.z * bar


@squared_modulus.jvp
def squared_modulus_jvp(res, z_dot):
    xp = diptych.namespace(z_dot)
    return 2 * xp.real(xp.conj(res.z) * z_dot)


@diptych.rule
def rotation(z, angle):
    xp = diptych.namespace(z)
    return z * xp.exp(1j * angle)


@rotation.vjp
def rotation_vjp(res, bar):
    xp = diptych.namespace(bar)
    return xp.conj(xp.exp(1j * res.angle)) * bar, xp.real(xp.conj(1j * res.out) * bar)


@diptych.rule
def fourier(z):
    xp = diptych.namespace(z)
    return xp.fft.fft(z)


@fourier.vjp
def fourier_vjp(res, bar):
    xp = diptych.namespace(bar)
    return xp.conj(xp.fft.fft(xp.conj(bar)))


@fourier.jvp
def fourier_jvp(res, z_dot):
    xp = diptych.namespace(z_dot)
    return xp.fft.fft(z_dot)
