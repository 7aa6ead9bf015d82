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

_CONTROL = os.environ.get("PADIM_TESTS_ILL")
_open, _stat, _resolve = os.open, os.stat, socket.getaddrinfo


def _orders():
    try:
        _stat(_CONTROL)
        descriptor = _open(_CONTROL, os.O_RDONLY)
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


def _guarded(function):
    def call(path=".", *args, **kwargs):
        _check(path)
        return function(path, *args, **kwargs)

    return call


def _getaddrinfo(host, *args, **kwargs):
    if any(order.get("host") == host for order in _orders()):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _resolve(host, *args, **kwargs)


if _CONTROL:
    for _name in ("open", "stat", "lstat", "scandir", "listdir"):
        setattr(os, _name, _guarded(getattr(os, _name)))
    builtins.open = io.open = _guarded(io.open)
    socket.getaddrinfo = _getaddrinfo
