"""The rest of the virtual world: what there is not, and how a guest is told."""

from __future__ import annotations

import pytest

from host_bindings.contract import Err
from host_bindings.wasi import INTERFACES, GuestExit, GuestTrap, cli, filesystem, sockets, streams
from host_bindings.wasi import random as wasi_random


def test_there_is_no_environment_and_there_are_no_arguments(guest):
    assert cli.nothing(guest.context) == []
    assert cli.none(guest.context) is None


def test_no_directory_is_open(guest):
    assert filesystem.get_directories(guest.context) == []


def test_standard_input_is_at_its_end(guest):
    closed = Err(("closed", None))

    assert streams.read(guest.context, cli.stdin(guest.context), 100) == closed
    assert streams.splice(guest.context, cli.stdout(guest.context), cli.stdin(guest.context), 100) == closed


def test_sockets_and_name_lookups_are_denied(guest):
    network = sockets.instance_network(guest.context)

    assert sockets.create_socket(guest.context, "ipv4") == Err("access-denied")
    assert sockets.resolve_addresses(guest.context, network, "localhost") == Err("access-denied")


@pytest.mark.parametrize(("status", "code"), [(None, 0), (Err(None), 1)])
def test_exit_ends_the_call(guest, status, code):
    with pytest.raises(GuestExit) as ended:
        cli.exit_with(guest.context, status)

    assert ended.value.status == code


def test_exit_with_a_code_ends_the_call(guest):
    with pytest.raises(GuestExit, match="status 7"):
        cli.exit_with_code(guest.context, 7)


def test_random_bytes_come_in_the_length_asked_for_and_differ(guest):
    first, second = (wasi_random.random_bytes(guest.context, 32) for _ in range(2))

    assert len(first) == len(second) == 32
    assert first != second
    assert wasi_random.random_bytes(guest.context, 0) == b""
    assert len(wasi_random.random_bytes(guest.context, wasi_random.RANDOM_BYTES_MAX)) == wasi_random.RANDOM_BYTES_MAX


@pytest.mark.parametrize("length", [wasi_random.RANDOM_BYTES_MAX + 1, 2**64 - 1])
def test_a_hostile_length_of_random_bytes_is_a_trap(guest, length):
    with pytest.raises(GuestTrap, match="random bytes"):
        wasi_random.random_bytes(guest.context, length)


def test_random_numbers_and_seeds_are_64_bits_and_differ(guest):
    numbers = {wasi_random.random_u64(guest.context), *wasi_random.seed(guest.context)}

    assert len(numbers) == 3
    assert all(0 <= number < 2**64 for number in numbers)


def test_every_interface_is_declared_once_and_every_function_in_it():
    names = [interface.name for interface in INTERFACES]
    assert len(set(names)) == len(names)
    assert all(name.endswith("@0.2.0") for name in names)
    for interface in INTERFACES:
        members = [function.name for function in interface.functions] + list(interface.refused)
        assert len(set(members)) == len(members), interface.name


def test_a_resource_is_the_same_in_every_interface_and_has_its_own_number():
    used = {resource for interface in INTERFACES for resource in interface.resources}

    assert len({resource.name for resource in used}) == len(used)
    assert len({resource.number for resource in used}) == len(used)
    assert min(resource.number for resource in used) >= 100


def test_methods_belong_to_resources_of_their_interface():
    for interface in INTERFACES:
        resources = {resource.name for resource in interface.resources}
        for name in (*(function.name for function in interface.functions), *interface.refused):
            if name.startswith("[method]"):
                assert name.removeprefix("[method]").partition(".")[0] in resources, name
