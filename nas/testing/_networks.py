"""The contract of a space's networks and supernet, checked by running them; see `check_space`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from searchspaces import Architecture, ContractViolation, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from searchspaces import Supernet

Module = TypeVar("Module", bound="nn.Module")

BATCH = 3
TOLERANCE = 1e-6
"""Largest difference, in double precision, of two ways to compute the same logits."""


def check_networks(space: SearchSpace, drawn: Sequence[Architecture], *, seed: int = 0) -> None:
    """Stand-alone networks: counted as promised, drawn from the seed alone, traceable, of modules that pass tensors.

    Raises:
        ContractViolation: a promise is broken.
    """
    import torch

    for architecture in drawn:
        before = torch.default_generator.get_state()
        network, again, other = (space.build(architecture, seed=s) for s in (seed, seed, seed + 1))
        _require(
            torch.equal(before, torch.default_generator.get_state()), "build leaves torch's generator", architecture
        )
        _require(_equal_weights(network, again), "equal seeds build equal weights", architecture)
        _require(not _equal_weights(network, other), "another seed builds other weights", architecture)
        _check_counts(space, architecture, network)
        network, x = _perturbed(network, seed), example(space, seed)
        logits = network.eval()(x)
        _require(logits.dim() == 2 and len(logits) == BATCH, "logits are batch x classes", architecture, logits.shape)
        _close(torch.fx.symbolic_trace(network)(x), logits, "a traced network computes the same", architecture)
        check_hooks(network, x, architecture)


def check_pass(space: SearchSpace, architecture: Architecture, num_classes: int) -> None:
    """A network takes two inputs of the space's shape and gives two rows of logits.

    Raises:
        ContractViolation: it gives something else.
    """
    import torch

    with torch.no_grad():
        logits = space.build(architecture).eval()(torch.zeros(2, *space.input_shape))
    expected = (2, num_classes)
    _require(tuple(logits.shape) == expected, f"logits of two inputs are {expected}", architecture, logits.shape)


def check_scores(space: SearchSpace, architecture: Architecture) -> None:
    """Every proxy has a score of the space's networks, or says why its formula does not apply to them.

    Raises:
        ContractViolation: one fails.
    """
    from nas.testing._proxies import scored_together

    for name, scored in scored_together(space, architecture).items():
        promise = f"the proxy {name} can read a network of the space, or says why its formula does not apply"
        _require(not scored.is_fault, promise, architecture, scored.error)


def check_supernet(space: SearchSpace, drawn: Sequence[Architecture], *, seed: int = 0) -> None:
    """The supernet: a path, its extracted network and its one-hot mixture are one function; options own their weights.

    Raises:
        ContractViolation: a promise is broken.
    """
    import torch

    before = torch.default_generator.get_state()
    supernet = space.supernet(seed=seed)
    _require(torch.equal(before, torch.default_generator.get_state()), "supernet leaves torch's generator")
    _require(_equal_weights(supernet, space.supernet(seed=seed)), "equal seeds make equal supernets")
    _check_owners(space, supernet)
    supernet = _perturbed(supernet, seed)
    for architecture in drawn:
        _check_function(space, supernet.eval(), architecture, example(space, seed))
        _check_gradients(space, supernet.train(), architecture, example(space, seed))
    _check_many(supernet.eval(), drawn, example(space, seed))
    _check_restriction(space, supernet.eval(), drawn, example(space, seed))


def check_hooks(network: nn.Module, x: Tensor, architecture: Architecture) -> None:
    """Forward hooks, of summaries and profilers, meet tensors at every module, or tuples, lists and dicts of them.

    Raises:
        ContractViolation: a module is called with something else, or gives something else.
    """
    import torch

    def look(module: nn.Module, given: tuple[object, ...], output: object) -> None:
        for what, values in (("is given", given), ("gives", (output,))):
            wrong = next((value for value in _leaves(values) if not isinstance(value, torch.Tensor)), None)
            if wrong is not None:
                called = next(name for name, own in network.named_modules() if own is module) or "(the whole)"
                raise ContractViolation(
                    f"modules of a built network pass plain tensors; {called} ({type(module).__name__}) of "
                    f"{architecture} {what} {wrong!r}, which no forward hook expects: give it at construction."
                )

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()


def _leaves(value: object) -> Iterator[object]:
    """What a value holds, without what torch's own modules leave out: None, as attention without its weights."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif value is not None:
        yield value


def example(space: SearchSpace, seed: int) -> Tensor:
    """A batch of random inputs, double precision, `batch x input shape`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, *space.input_shape, generator=generator, dtype=torch.float64)


def _require(holds: bool, promise: str, *examples: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {', '.join(map(str, examples))}.")


def _close(one: Tensor, other: Tensor, promise: str, *examples: object) -> None:
    same = one.shape == other.shape
    difference = float((one - other).detach().abs().max()) if same else float("inf")
    _require(same and difference <= TOLERANCE, f"{promise} (largest difference {difference:.2g})", *examples)


def _equal_weights(one: nn.Module, other: nn.Module) -> bool:
    import torch

    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _perturbed(module: Module, seed: int) -> Module:
    """The module in double precision with no weight or statistic at a value that hides a mistake."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return module


def _check_counts(space: SearchSpace, architecture: Architecture, network: nn.Module) -> None:
    """Analytic counts against the network: its parameters, and the multiply-accumulates that it really does."""
    params = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    counts = space.counts(architecture)
    _require(counts.params == params, "counted parameters are the network's", architecture, counts.params, params)
    live = space.counts(architecture, live=True).flops
    done, biases = _executed(network, example(space, 0).float())
    promise = "live FLOPs are the multiply-accumulates that run, with or without the additions of biases"
    _require(done <= live <= done + biases, promise, architecture, live, done, biases)


def _executed(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """Multiply-accumulates of one input in convolutions and linear layers, and additions of their biases."""
    import torch

    done, biases = 0, 0

    def count(module: nn.Module, _: object, y: Tensor) -> None:
        nonlocal done, biases
        weight, bias = module.weight, module.bias
        assert isinstance(weight, torch.Tensor)
        done += y[0].numel() * weight[0].numel()
        biases += y[0].numel() if bias is not None else 0

    weighted = [m for m in network.modules() if getattr(getattr(m, "weight", None), "ndim", 0) > 1]
    handles = [module.register_forward_hook(count) for module in weighted]
    with torch.no_grad():
        network.eval()(x[:1])
    for handle in handles:
        handle.remove()
    return done, biases


def _check_owners(space: SearchSpace, supernet: Supernet) -> None:
    """Every weight belongs to one option at most; an option has weights exactly where its decision says so."""
    owner: dict[int, tuple[str, str]] = {}
    for decision in space.decisions:
        for option, parametric in zip(decision.options, decision.parametric, strict=True):
            weights = list(supernet.parameters_of(decision.name, option))
            _require(bool(weights) == parametric, "an option has weights as `parametric` says", decision.name, option)
            for weight in weights:
                _require(
                    id(weight) not in owner, "a weight has one owner", owner.get(id(weight)), decision.name, option
                )
                owner[id(weight)] = (decision.name, option)
    shared = {id(parameter) for parameter in supernet.parameters()}
    _require(owner.keys() <= shared, "the weights of options are the supernet's")


def _check_many(supernet: Supernet, drawn: Sequence[Architecture], x: Tensor) -> None:
    """Run together, every architecture gets the logits it gets alone, one that is asked for twice too."""
    asked = [*drawn, drawn[0]]
    found = list(supernet.forward_many(x, asked))
    _require(sorted(place for place, _ in found) == list(range(len(asked))), "`forward_many` answers each once", found)
    for place, logits in found:
        _close(logits, supernet(x, asked[place]), "`forward_many` computes what `forward` does", asked[place])
    _require(not list(supernet.forward_many(x, [])), "`forward_many` of nothing gives nothing")


def _check_function(space: SearchSpace, supernet: Supernet, architecture: Architecture, x: Tensor) -> None:
    import torch

    from searchspaces import Mixture

    logits = supernet(x, architecture)
    _require(logits.dim() == 2 and len(logits) == len(x), "logits are batch x classes", architecture, logits.shape)
    extracted = supernet.extract(architecture)
    _require(extracted.training == supernet.training, "an extracted network is in the supernet's mode", architecture)
    _close(extracted(x), logits, "an extracted network computes what the supernet does", architecture)
    check_hooks(extracted, x, architecture)
    _close(supernet(x, space.live(architecture)), logits, "the live form computes the same", architecture)
    shared = {id(tensor) for tensor in supernet.parameters()}
    _require(
        not shared & {id(p) for p in extracted.parameters()}, "an extracted network has its own weights", architecture
    )
    weights = {
        decision.name: torch.tensor(
            [float(option == architecture[decision.name]) for option in decision.options]
        ).double()
        for decision in space.decisions
        if decision.name in architecture
    }
    for weight in weights.values():
        weight.requires_grad_()
    mixed = supernet(x, Mixture(weights))
    _close(mixed, logits, "a one-hot mixture computes what the architecture does", architecture)


def _check_gradients(space: SearchSpace, supernet: Supernet, architecture: Architecture, x: Tensor) -> None:
    """Unchosen options get no gradient, chosen live ones do; a mixture's weights get gradients."""
    import torch

    from searchspaces import Mixture

    supernet.zero_grad(set_to_none=True)
    supernet(x, architecture).square().sum().backward()
    live = space.live(architecture)
    for decision in space.decisions:
        for option in decision.options:
            gradients = [weight.grad for weight in supernet.parameters_of(decision.name, option)]
            if (decision.name, option) not in architecture.options:
                idle = all(gradient is None or not gradient.any() for gradient in gradients)
                _require(idle, "options that are not chosen get no gradient", architecture, decision.name, option)
            elif (decision.name, option) in live.options:
                reached = all(gradient is not None for gradient in gradients)
                _require(reached, "live chosen options get gradients", architecture, decision.name, option)
    weights = {d.name: torch.full((len(d.options),), 1 / len(d.options)).double() for d in space.decisions}
    for weight in weights.values():
        weight.requires_grad_()
    supernet(x, Mixture(weights)).square().sum().backward()
    _require(
        any(w.grad is not None and bool(w.grad.any()) for w in weights.values()), "a mixture's weights get gradients"
    )
    supernet.zero_grad(set_to_none=True)


def _check_restriction(space: SearchSpace, supernet: Supernet, drawn: Sequence[Architecture], x: Tensor) -> None:
    """A supernet over a sub-space computes what the whole one does, with weights of its own."""
    decision = max(space.decisions, key=lambda decision: len(decision.options))
    parts = space.partition(decision.name, [[option] for option in decision.options])
    for part in parts:
        inside = next((a for a in drawn if not part.validate(a)), None)
        if inside is None:
            continue
        restricted = supernet.restrict(part)
        _close(restricted(x, inside), supernet(x, inside), "a restricted supernet computes the same", inside)
        own = {id(parameter) for parameter in restricted.parameters()}
        _require(not own & {id(p) for p in supernet.parameters()}, "a restricted supernet has its own weights")
