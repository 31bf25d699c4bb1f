"""Voila's settings; `rowmill.pages.host` starts Voila in this folder, and Voila runs this file."""

import functools
import logging
import tempfile

import tornado.web
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.log import log_request
from rowmill import settings
from rowmill.pages import host

SETTINGS = settings.load()
TOKEN = host.token(SETTINGS)
# A page may use what comes from its own address, and nothing else: no request leaves the machine.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'"
)


class Closed(tornado.web.RequestHandler):  # pylint: disable=abstract-method
    """What a visitor without the token sees, in place of Jupyter's form for passwords."""

    def get(self):
        """Say where the address is."""
        self.set_status(403)
        self.finish("The dashboard opens with the whole address that `make run` printed behind 'Dashboard:'; its end is a token.")


class Gate(IdentityProvider):  # pylint: disable=abstract-method
    """Lets in who has the token, or the cookie that the token brought."""

    def get_handlers(self):
        """Return the one page that is open to all."""
        return [("/login", Closed)]


def redact(record):
    """Keep the token out of the log, whatever writes it there."""
    record.msg, record.args = record.getMessage().replace(TOKEN, "[token]"), ()
    return True


def receive(handler, **_):
    """Take the token out of the address before a kernel starts: it would stay in its environment and in the browser's history."""
    # Reading it sets the cookie without which a closed page could not end its kernel.
    _ = handler.xsrf_token
    if "token" in handler.request.arguments:
        handler.redirect(handler.base_url)
        raise tornado.web.Finish


for name in ("Voila", "tornado.access", "tornado.application", "tornado.general"):
    logging.getLogger(name).addFilter(redact)

c = get_config()  # noqa: F821  # pylint: disable=undefined-variable  # Voila gives it to this file
c.Voila.ip = "127.0.0.1"
c.Voila.port = SETTINGS.dashboard_port
c.Voila.port_retries = 0
c.Voila.open_browser = False
c.Voila.token = TOKEN
c.Voila.identity_provider_class = Gate
c.IdentityProvider.cookie_options = {"samesite": "Lax"}
c.Voila.tornado_settings = {
    # Only a loopback name is answered, so that no foreign page can lead its own name here.
    "allow_remote_access": False,
    "local_hostnames": ["localhost"],
    "headers": {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"},
    "log_function": functools.partial(log_request, record_prometheus_metrics=False),
}

c.VoilaConfiguration.template = "rowmill"
c.VoilaConfiguration.allow_template_override = "NO"
c.VoilaConfiguration.allow_theme_override = "NO"
c.VoilaConfiguration.strip_sources = True
c.VoilaConfiguration.show_tracebacks = False
c.VoilaConfiguration.file_allowlist = []
c.VoilaConfiguration.extension_allowlist = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]
c.VoilaConfiguration.prelaunch_hook = receive

# A kernel whose page is gone ends after ten minutes; one that still deploys may finish when its page is closed.
c.MappingKernelManager.cull_idle_timeout = 600
c.MappingKernelManager.cull_interval = 60
c.MappingKernelManager.cull_connected = False
c.KernelManager.shutdown_wait_time = 90.0
# Files that only the owner may use, in place of ports that every user of the machine can reach; a socket's path must be short.
c.KernelManager.transport = "ipc" if len(tempfile.gettempdir()) < 32 else "tcp"
