"""Makes paths and host names ill for the tests.

It works in every Python process that starts with this folder in PYTHONPATH.

The file that PADIM_TESTS_ILL names holds the orders: a JSON list of objects with ``prefix`` and
``errno`` (every access to a path fails) or ``hang`` (it waits until the order is gone), or with
``host`` (its name does not resolve).
"""

import builtins
import io
import json
import os
import socket
import time

_USUAL = {
    (os, "open"): os.open,
    (os, "stat"): os.stat,
    (os, "lstat"): os.lstat,
    (os, "scandir"): os.scandir,
    (os, "listdir"): os.listdir,
    (io, "open"): io.open,
    (builtins, "open"): builtins.open,
}
_RESOLVE = socket.getaddrinfo
_control = None


def obey(control):
    """Obey the orders in a file from now on."""
    global _control
    _control = control
    for (module, name), usual in _USUAL.items():
        setattr(module, name, _guarded(usual))
    socket.getaddrinfo = _getaddrinfo


def be_free():
    """Obey no orders."""
    for (module, name), usual in _USUAL.items():
        setattr(module, name, usual)
    socket.getaddrinfo = _RESOLVE


def _orders():
    try:
        descriptor = _USUAL[os, "open"](_control, os.O_RDONLY)
    except OSError:
        return []
    with io.FileIO(descriptor) as file:
        return json.loads(file.read() or b"[]")


def _check(path):
    if isinstance(path, int) or path is None:
        return
    name = os.fsdecode(path)
    for order in _orders():
        prefix = order.get("prefix")
        if prefix is None or not (name == prefix or name.startswith(prefix + "/")):
            continue
        if "errno" in order:
            raise OSError(order["errno"], os.strerror(order["errno"]), name)
        while order in _orders():
            time.sleep(0.02)


def _guarded(usual):
    def call(path=".", *args, **kwargs):
        _check(path)
        return usual(path, *args, **kwargs)

    return call


def _getaddrinfo(host, *args, **kwargs):
    if any(order.get("host") == host for order in _orders()):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _RESOLVE(host, *args, **kwargs)


if "PADIM_TESTS_ILL" in os.environ:
    obey(os.environ["PADIM_TESTS_ILL"])
