"""Received tensors beside what TensorFlow reads in them."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.proto_tensors import to_array, to_arrays, write
from serving.request_error import RequestError


def tensor(sizes, values=(), dtype=types_pb2.DT_STRING, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, string_val=values, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


def unknown_rank():
    proto = tensor([], [b"a"])
    proto.tensor_shape.unknown_rank = True
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        tensor([2, 2], [b"a", b"", b"\xff", "é".encode()]),
        tensor([1, 1], [b""]),
        tensor([2, 3], [b"a"]),
        tensor([2, 3], [b"a", b"b"]),
        tensor([0, 7]),
        tensor([7, 0]),
        tensor([0]),
        tensor([], [b"a"]),
        tensor([1] * 64, [b"a"]),
        unknown_rank(),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[b"a"]),
    ],
    ids=repr,
)
def test_arrays_are_those_of_tensorflow(proto):
    found, expected = to_array("x", proto), tf.make_ndarray(proto)
    assert (found.dtype, found.shape) == (object, expected.shape)
    assert found.tolist() == expected.tolist()


def test_a_shape_without_values_is_filled_with_empty_strings():
    """TensorFlow's has texts there, which are no bytes."""
    assert to_array("x", tensor([1, 2])).tolist() == [[b"", b""]]


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (tensor([1, 1], [b"a", b"b"]), "no valid tensor"),
        (tensor([0, 1], [b"a"]), "no valid tensor"),
        (tensor([1] * 65, [b"a"]), "no valid tensor"),
        (tensor([1 << 62] * 255, [b"a"]), "255 dimensions; at most 254"),
        (tensor([-1, -1], [b"a"]), "negative dimension: -1"),
        (tensor([1, (1 << 19) + 1], [b"a"]), "more than"),
        (tensor([1 << 40, 1 << 40], [b"a"]), "more than"),
        (tensor([0, 1 << 40]), "more than"),
        (tensor([(1 << 63) - 1, 0]), "more than"),
        (tensor([1, 1026], [b"a"]), "1 values for the 1026 elements.*one for each"),
        (tensor([1, 1 << 19], [b"a"]), "1 values for the 524288 elements"),
        (tensor([2, 2], [b"a"] * 2000), "2000 values for the 4 elements"),
        (tensor([1, 1], tensor_content=b"\x01a"), "tensor_content"),
        (tensor([1, 1], [b"a"], tensor_content=b"\x01a"), "tensor_content"),
        (tensor([1, 1], dtype=types_pb2.DT_UINT8, int_val=[300]), "Received: DT_UINT8"),
        (tensor([1, 1], [b"a"], dtype=types_pb2.DT_INVALID), "Received: DT_INVALID"),
        (tensor([1, 1], [b"a"], dtype=5000), "Received: 5000"),
        (tensor_pb2.TensorProto(), "Received: DT_INVALID"),
    ],
    ids=repr,
)
def test_what_is_no_tensor_of_strings_is_refused(proto, says):
    with pytest.raises(RequestError, match=says) as caught:
        to_array("x", proto)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_no_input_is_read_before_all_names_are_known():
    """Else a small request of many names would fill the memory."""
    infos = {name: meta_graph_pb2.TensorInfo() for name in ("history", "candidates")}
    bomb = {f"x{number}": tensor([-1]) for number in range(2)}
    with pytest.raises(RequestError, match=r"extra: \{x0,x1\}.*required: \{candidates,history\}"):
        to_arrays(bomb, infos)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[b"a", b""], [b"\xff", b"b"]], object),
        np.array([[1.5, -np.inf]], np.float32),
        np.empty((0, 3), np.float32),
        np.empty((0, 3), object),
    ],
    ids=repr,
)
def test_what_is_written_is_what_tensorflow_reads(array):
    proto = tensor_pb2.TensorProto()
    write(array, proto)
    found = tf.make_ndarray(proto)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tolist() == array.tolist()
