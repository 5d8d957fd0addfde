"""A net as an ONNX model: what other programs run without minnet (extra `onnx`)."""

from minnet._checks import bad_type, bad_value, optional_module
from minnet.heads import LinearCrossEntropy
from minnet.layers import Dropout, Layer, Linear, ReLU, Sigmoid, Softplus, Tanh

PRODUCTS = {Linear: "Gemm", LinearCrossEntropy: "Gemm"}
OPERATORS = PRODUCTS | {Sigmoid: "Sigmoid", Tanh: "Tanh", ReLU: "Relu", Softplus: "Softplus"}
OPSET, IR_VERSION = 17, 8  # of 2022: what runtimes of the years since then read


def onnx_model(owner, net):
    """The model: input "x" (N, I), output "y" (N, O), both in the net's dtype; parameters under the net's names."""
    helper, numpy_helper = (optional_module(owner, f"onnx.{name}", "onnx") for name in ("helper", "numpy_helper"))
    leaves = _checked_leaves(owner, net)
    nodes, flow = [], "x"
    for name, layer in leaves:
        weights = [f"{name}{parameter}" for parameter, _ in layer.named_parameters()]
        made = "y" if layer is leaves[-1][1] else f"{name}y"
        nodes.append(helper.make_node(OPERATORS[type(layer)], [flow, *weights], [made]))
        flow = made
    products = [layer for _, layer in leaves if type(layer) in PRODUCTS]
    kind = helper.np_dtype_to_tensor_dtype(products[0].W.dtype)
    x = helper.make_tensor_value_info("x", kind, ["N", products[0].in_features])
    y = helper.make_tensor_value_info("y", kind, ["N", products[-1].out_features])
    held = [numpy_helper.from_array(array, name) for name, array in net.named_parameters()]
    graph = helper.make_graph(nodes, "minnet", [x], [y], held)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="minnet", opset_imports=opset, ir_version=IR_VERSION)


def _checked_leaves(owner, net):
    """The layers that do something in use, in order, with what the names of their parameters begin with."""
    if not isinstance(net, Layer):
        raise bad_type(owner, "net must be a minnet Layer, such as MLP or Sequential", net)
    leaves = [(name, layer) for name, layer in _leaves(net, "") if type(layer) is not Dropout]
    for _, layer in leaves:
        if type(layer) not in OPERATORS:
            raise bad_type(owner, "every layer must be one of minnet's own", layer)
    if not any(type(layer) in PRODUCTS for _, layer in leaves):
        raise bad_value(owner, "net must have a Linear layer, which tells how many inputs there are", net)
    return leaves


def _leaves(net, name):
    if not hasattr(net, "layers"):
        return [(name, net)]
    return [leaf for i, layer in enumerate(net.layers) for leaf in _leaves(layer, f"{name}{i}.")]
