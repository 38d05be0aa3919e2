-- Who waits for a resource asks for those who change it, and not for all the others who only need it to stay.
CREATE INDEX "operationLock_changing" ON "operationLock" ("resourceId", ticket) WHERE mode <> 'S';
