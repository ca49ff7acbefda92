"""TF Serving's tensors as arrays, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.request_error import invalid

MOST_ELEMENTS = 1 << 19
_MOST_REPEATED = 1024
_MOST_DIMENSIONS = 254
"""As TensorFlow has it. The product of thousands of large sizes would take minutes."""


def to_arrays(
    protos: Mapping[str, tensor_pb2.TensorProto], infos: Mapping[str, meta_graph_pb2.TensorInfo]
) -> dict[str, np.ndarray]:
    """The arrays of a request's tensors.

    INVALID_ARGUMENT for other names than the signature takes, before they cost memory, or for a
    tensor that `to_array` refuses.
    """
    extra, missing = sorted(set(protos) - set(infos)), sorted(set(infos) - set(protos))
    if extra or missing:
        raise invalid(
            f"inputs do not match the signature. Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    return {name: to_array(name, proto) for name, proto in protos.items()}


def to_array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array, objects of bytes, of a received tensor of strings, which is what signatures take.

    As `tf.make_ndarray`, in a fifth of its time. A few bytes can declare a tensor of any size, so
    the size is checked first. Of fewer values than the shape has, the last is repeated, up to 1,024
    times: more would cost far more than was sent. INVALID_ARGUMENT for another dtype, or a tensor
    that contradicts itself; the message says `name`.
    """
    if proto.dtype != types_pb2.DT_STRING or proto.tensor_content:
        names = {number: name for name, number in types_pb2.DataType.items()}
        received = names.get(proto.dtype, proto.dtype)
        content = " in `tensor_content`" if proto.tensor_content else ""
        raise invalid(
            f"input `{name}` must be DT_STRING in `string_val`. Received: {received}{content}."
        )
    if len(proto.tensor_shape.dim) > _MOST_DIMENSIONS:
        raise invalid(
            f"input `{name}` has {len(proto.tensor_shape.dim)} dimensions; "
            f"at most {_MOST_DIMENSIONS} are taken."
        )
    shape = [dim.size for dim in proto.tensor_shape.dim]
    negative = [size for size in shape if size < 0]
    if negative:
        raise invalid(f"input `{name}` has a negative dimension: {negative[0]}.")
    # A dimension counts where another is 0 too: the model makes tensors of it alone.
    if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS:
        raise invalid(f"input `{name}` has more than {MOST_ELEMENTS} elements.")
    declared, sent = math.prod(shape), len(proto.string_val)
    if sent > declared or declared - sent > _MOST_REPEATED:
        raise invalid(
            f"input `{name}` is no valid tensor: {sent} values for the {declared} elements of "
            f"shape {shape}. Send one for each."
        )
    values = list(proto.string_val)
    values += (values[-1:] or [b""]) * (declared - sent)
    try:
        return np.array(values, object).reshape(shape)
    except ValueError as error:
        raise invalid(f"input `{name}` is no valid tensor: {error}") from None


def write(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Fill a new tensor with values in typed fields, as TF Serving sends them by default.

    The array is float32, or objects of bytes.
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
