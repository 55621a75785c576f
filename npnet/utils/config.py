"""Settings of all models, under Keras's names; ``mixed_precision`` says what the policies mean."""

from npnet.internal.mixed_precision import dtype_policy, set_dtype_policy

__all__ = ["dtype_policy", "set_dtype_policy"]
