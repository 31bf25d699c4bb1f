"""Voila's settings; `rowmill.pages.host` starts Voila in this folder, and Voila runs this file."""

import functools
import logging
import tempfile

import tornado.web
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.log import log_request
from nbconvert.exporters import HTMLExporter
from rowmill import settings
from rowmill.pages import host, words
from voila.tornado.handler import TornadoVoilaHandler  # pylint: disable=import-error  # it takes this file for Voila

SETTINGS = settings.load()
TOKEN = host.token(SETTINGS)
PAGES = host.pages(SETTINGS)
# A page may use what comes from its own address, and nothing else: no request leaves the machine. blob: is how anywidget
# hands a widget's JavaScript, which came through the kernel, to the browser.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)


class Closed(tornado.web.RequestHandler):  # pylint: disable=abstract-method
    """What a visitor without the token sees, in place of Jupyter's form for passwords."""

    def get(self):
        """Say where the address is."""
        self.set_status(403)
        self.finish(words.say("frame.closed"))


class Nothing(tornado.web.RequestHandler):  # pylint: disable=abstract-method
    """In place of what Voila would serve beside the pages: a list of files, their contents, any notebook by its path."""

    def prepare(self):
        """Refuse whatever is asked."""
        raise tornado.web.HTTPError(404)


class Page(TornadoVoilaHandler):  # pylint: disable=abstract-method
    """A page at its short address."""

    async def prepare(self):
        """Take the token out of the address before a kernel sees it: it would stay in its environment and in the browser's history."""
        await super().prepare()
        if self.current_user and "token" in self.request.arguments:
            self.redirect(self.request.path)

    async def get(self, path=None):
        """Show the page."""
        # Reading it sets the cookie without which a closed page could not end its kernel.
        _ = self.xsrf_token
        await super().get(path)


class Executed(JupyterHandler):  # pylint: disable=abstract-method
    """An executed notebook of a run, as a page to read."""

    @tornado.web.authenticated
    def get(self, run, name):
        """Show it; what a run's folder does not hold is not there."""
        path = SETTINGS.state / "runs" / run / name
        if not path.is_file():
            raise tornado.web.HTTPError(404)
        # Nothing from elsewhere: the policy would refuse it.
        addresses = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url", "jupyter_widgets_base_url", "mermaid_js_url"), "")
        self.finish(HTMLExporter(template_name="lab", **addresses).from_filename(str(path))[0])


class Door(Page):  # pylint: disable=abstract-method
    """The dashboard's plain address leads to its first page."""

    @tornado.web.authenticated
    async def get(self, path=None):
        """Lead there."""
        self.redirect(f"/{PAGES[0]}")


class Gate(IdentityProvider):  # pylint: disable=abstract-method
    """Lets in who has the token, or the cookie that the token brought."""

    def get_handlers(self):
        """Return what comes before Voila's own addresses."""
        shared = {
            "template_paths": self.parent.template_paths,
            "config": self.parent.config,
            "voila_configuration": self.parent.voila_configuration,
        }
        pages = [(f"/{name}", Page, {**shared, "notebook_path": f"{name}.ipynb"}) for name in PAGES]
        copies = (r"/runs/([0-9]{8}T[0-9]{12})/([\w-]+\.ipynb)", Executed)
        closed = (r"/voila/(?:render|tree|query|api/contents)(?:/.*)?", Nothing)
        return [("/login", Closed), closed, copies, ("/", Door, shared), *pages]


def redact(record):
    """Keep the token out of the log, whatever writes it there."""
    record.msg, record.args = record.getMessage().replace(TOKEN, "[token]"), ()
    return True


def tell(page_config, notebook_path="", **_):
    """Tell the template which pages there are, and its words."""
    here = notebook_path.removesuffix(".ipynb")
    return {**page_config, "rowmill": {"pages": PAGES, "here": here, "words": words.section("frame")}}


for logger in ("Voila", "tornado.access", "tornado.application", "tornado.general"):
    logging.getLogger(logger).addFilter(redact)

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
c.VoilaConfiguration.extension_allowlist = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
c.VoilaConfiguration.page_config_hook = tell
# One warm kernel a page, with the page drawn in it.
c.VoilaConfiguration.preheat_kernel = True
c.VoilaConfiguration.default_pool_size = 1
c.VoilaKernelManager.fill_delay = 0.5

# A closed page ends its kernel; where it cannot, for the browser died or the line broke, the kernel ends within two minutes.
c.MappingKernelManager.cull_idle_timeout = 60
c.MappingKernelManager.cull_interval = 20
c.MappingKernelManager.cull_connected = False
# Files that only the owner may use, in place of ports that every user of the machine can reach; a socket's path must be short.
c.KernelManager.transport = "ipc" if len(tempfile.gettempdir()) < 32 else "tcp"
