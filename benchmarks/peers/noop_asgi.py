"""A function that does nothing, as functions-framework hosts it under ASGI."""

import functions_framework.aio


@functions_framework.aio.http
async def predict(request):  # type: ignore[no-untyped-def]
    """Read the body, as a WSGI host does by itself, and answer."""
    await request.body()
    return "ok"
