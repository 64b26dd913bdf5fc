"""Notifications for each user, with what was missed while they were away.

uvicorn examples.notifications:app
curl -N http://127.0.0.1:8000/notifications/ada &
curl -X POST 'http://127.0.0.1:8000/notify/ada?text=lunch'
"""

from fastapi import FastAPI, Request, Response

from yeoul import Event, EventStream, Hub

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)


@app.get("/notifications/{user}")
async def notifications(user: str, request: Request) -> Response:
    return EventStream(hub, f"notifications/{user}", request)


@app.post("/notify/{user}")
async def notify(user: str, text: str) -> dict[str, str]:
    cursor = await hub.publish(f"notifications/{user}", Event(text, type="notification"))
    return {"id": str(cursor)}
