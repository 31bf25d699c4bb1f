"""A function that does nothing, as functions-framework hosts it under WSGI: what its host costs."""

import functions_framework


@functions_framework.http
def predict(_request):  # type: ignore[no-untyped-def]
    """Answer."""
    return "ok"
