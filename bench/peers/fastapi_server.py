"""The page of 500 on FastAPI with pydantic models, one worker on uvicorn with uvloop."""

import json
import socket
import sys
from datetime import date
from decimal import Decimal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel


class Coordinates(BaseModel):
    lat: float
    lon: float


class Location(BaseModel):
    coordinates: Coordinates | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None
    street: str | None = None
    postal_code: str | None = None
    store_number: str | None = None


class Merchant(BaseModel):
    name: str | None = None
    mcc: str | None = None
    website: str | None = None
    location: Location | None = None


class Payment(BaseModel):
    reference_number: str | None = None
    ppd_id: str | None = None
    payee: str | None = None
    payer: str | None = None
    by_order_of: str | None = None
    payment_method: str | None = None
    payment_processor: str | None = None
    reason: str | None = None


class Transaction(BaseModel):
    id: str
    account_id: str
    amount: Decimal
    transacted_at: str
    type: str
    description: str | None
    settled_at: str | None
    code: str | None = None
    merchant: Merchant | None = None
    check_number: str | None = None
    payment: Payment | None = None
    currency: str | None = None
    non_iso_currency: str | None = None


class Page(BaseModel):
    total: int
    transactions: list[Transaction]
    next_cursor: str | None = None


with open(sys.argv[1], encoding="utf-8") as file:
    PAGE = Page.model_validate(json.load(file))

app = FastAPI()
bearer = HTTPBearer()


@app.get(
    "/users/{user_id}/transactions",
    response_model=Page,
    response_model_exclude_none=True,
)
async def transactions(
    user_id: str,
    start_date: date,
    end_date: date,
    limit: int = Query(100, ge=1, le=500),
    offset: int = Query(0, ge=0),
    credentials: HTTPAuthorizationCredentials = Depends(bearer),
) -> Page:
    if credentials.credentials != "token":
        raise HTTPException(401)
    if user_id != "user-ann":
        raise HTTPException(403)
    return Page(total=PAGE.total, transactions=PAGE.transactions[offset : offset + limit])


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
host, port = listener.getsockname()
config = uvicorn.Config(app, log_level="warning", access_log=False)


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"{host}:{port} token", flush=True)


Server(config).run([listener])
