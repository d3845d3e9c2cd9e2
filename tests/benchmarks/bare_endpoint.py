"""An endpoint that verifies signatures and does nothing else: what HTTP alone costs. Prints its port."""

import asyncio
import sys
import time

from aiohttp import web

from runner.signature import read_signature
from tests.support.webhooks import PATH, SECRET


async def deliver(request: web.Request) -> web.Response:
    signed = read_signature(request.headers.get("Stripe-Signature"), time.time())
    signed.check(await request.read(), [SECRET])
    return web.Response(text="ok\n")


async def serve() -> None:
    application = web.Application()
    application.router.add_post(PATH, deliver)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
