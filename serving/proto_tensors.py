"""TF Serving's tensors as arrays, and back."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import invalid

_MOST_ELEMENTS = 1 << 19


def to_array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array of a received tensor.

    A few bytes can declare a tensor of any size, so the size is checked first.

    Args:
        name: Of the input, for the message.
        proto: As received.

    Raises:
        RequestError: INVALID_ARGUMENT for a tensor that contradicts itself.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    negative = [size for size in shape if size < 0]
    if negative:
        raise invalid(f"input `{name}` has a negative dimension: {negative[0]}.")
    size = math.prod(shape)
    if size > _MOST_ELEMENTS:
        raise invalid(f"input `{name}` has {size} elements; at most {_MOST_ELEMENTS} are taken.")
    if proto.dtype == types_pb2.DT_STRING and len(proto.string_val) == size:
        # What clients send; TensorFlow's way to the same takes five times as long.
        return np.array(list(proto.string_val), object).reshape(shape)
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise invalid(f"input `{name}` is no valid tensor: {error}") from error


def write(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Fill a new tensor, with values in typed fields, as TF Serving sends them by default.

    Args:
        array: float32, or objects of bytes.
        proto: Filled.
    """
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values = array.ravel().tolist()
    if array.dtype == object:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(values)
    else:
        proto.dtype = types_pb2.DT_FLOAT
        proto.float_val.extend(values)
