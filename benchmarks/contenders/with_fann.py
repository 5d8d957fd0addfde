"""FANN 2.2, the C library, through ctypes where it is installed (``apt install libfann2``): a tiny net, and one answer.

All epochs are one call. It has no softmax: an answer is the logits, and softmax is not timed.
"""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_uint, c_void_p

import numpy as np

from benchmarks import training
from benchmarks.contenders import Job

LINEAR, SIGMOID, BATCH = 0, 3, 1  # activations, and the way to train
STEEPNESS = {LINEAR: 1.0, SIGMOID: 0.5}  # what makes its activations the usual ones


def contenders(threads):
    """FANN, in C, with one thread."""
    for dtype in ("float32", "float64"):
        _library(dtype)
    return {"FANN": {"5000 epochs of XOR": _xor, "one answer": _answer}}


def _library(dtype):
    """The build of the library for a dtype; ImportError where it is missing."""
    real = {"float32": c_float, "float64": c_double}[str(dtype)]
    name = {c_float: "libfloatfann.so.2", c_double: "libdoublefann.so.2"}[real]
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ImportError(f"no FANN here: {error}") from error
    library.fann_create_standard_array.restype = library.fann_create_train.restype = c_void_p
    library.fann_run.restype = POINTER(real)
    return library, real


def _net(p, last):
    """A FANN net with the weights of a problem; a bias is a neuron behind those of its layer."""
    library, real = _library(p.x.dtype)
    layers = training.pairs(p)
    sizes = [len(layers[0][0]), *(len(b) for _, b in layers)]
    net = c_void_p(library.fann_create_standard_array(len(sizes), (c_uint * len(sizes))(*sizes)))
    library.fann_set_activation_function_hidden(net, c_int(SIGMOID))
    library.fann_set_activation_function_output(net, c_int(last))
    library.fann_set_activation_steepness_output(net, real(STEEPNESS[last]))

    class Connection(Structure):
        _fields_ = (("start", c_uint), ("end", c_uint), ("weight", real))

    connections, first = [], 0
    for W, b in layers:
        rows = np.vstack([W, b])
        start = first + len(rows)
        connections += [(first + i, start + j, rows[i, j]) for j in range(len(b)) for i in range(len(rows))]
        first = start
    array = (Connection * len(connections))(*connections)
    library.fann_set_weight_array(net, array, c_uint(len(connections)))

    def parameters():
        library.fann_get_connection_array(net, array)
        weights, at, found = [connection.weight for connection in array], 0, []
        for W, _ in layers:
            rows, columns = len(W) + 1, W.shape[1]
            block = np.reshape(weights[at : at + rows * columns], (columns, rows)).T
            found.append((block[:-1], block[-1]))
            at += rows * columns
        return training.flat(found).astype(p.x.dtype)

    return library, real, net, parameters


def _xor(p):
    library, real, net, parameters = _net(p, SIGMOID)
    rows = POINTER(POINTER(real))

    class Data(Structure):
        _fields_ = (
            ("errno", c_int),
            ("log", c_void_p),
            ("message", c_char_p),
            ("samples", c_uint),
            ("inputs", c_uint),
            ("outputs", c_uint),
            ("input", rows),
            ("output", rows),
        )

    library.fann_create_train.restype = POINTER(Data)
    data = library.fann_create_train(*map(c_uint, (len(p.x), p.x.shape[1], p.t.shape[1])))
    for i in range(len(p.x)):
        for room, values in ((data.contents.input[i], p.x[i]), (data.contents.output[i], p.t[i])):
            ctypes.memmove(room, np.ascontiguousarray(values).ctypes.data, values.nbytes)
    library.fann_set_training_algorithm(net, c_int(BATCH))
    library.fann_set_train_error_function(net, c_int(0))  # the error itself
    library.fann_set_learning_rate(net, c_float(training.XOR.lr))
    epochs, never = c_uint(training.XOR.epochs), c_float(0)
    return Job(lambda: library.fann_train_on_data(net, data, epochs, c_uint(0), never), lambda _: (parameters(),))


def _answer(p):
    library, real, net, _ = _net(p, LINEAR)
    x, outputs = np.ascontiguousarray(p.x[0]), len(training.pairs(p)[-1][1])
    pointer = x.ctypes.data_as(POINTER(real))

    def read(result):
        z = np.array(result[:outputs], p.x.dtype)[None]
        return (training.softmax(z),)

    return Job(lambda: library.fann_run(net, pointer), read)
