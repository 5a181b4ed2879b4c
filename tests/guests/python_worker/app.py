"""A worker that runs the Python code that it is sent and answers with what the code leaves in `result`.

Modules that such code uses must be imported here: what is not there when a worker is built is not there at run time.
"""

import datetime
import encodings.idna
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Exception as GuestError
from wit_world.imports.http import Response
from wit_world.imports.types import Payload_Text

MODULES = {
    module.__name__: module
    for module in (
        datetime,
        encodings.idna,
        logging,
        os,
        random,
        secrets,
        socket,
        subprocess,
        sys,
        tempfile,
        threading,
        time,
        uuid,
    )
}


class Handler(exports.Handler):
    def fetch(self, method, url, headers, body):
        names = dict(MODULES)
        try:
            exec(body.value, names)
        except Exception as error:
            raise Err(GuestError(type(error).__name__, str(error), traceback.format_exc())) from None
        return Response(200, "", Payload_Text(str(names.get("result", ""))))

    def call(self, method, arguments, attachments):
        raise NotImplementedError
