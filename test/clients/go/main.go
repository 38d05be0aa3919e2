// Deploys an instance through the client that oapi-codegen has made, and removes it again.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"belay.example/client/belay"
	"github.com/google/uuid"
)

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// must answers what the call has brought, and ends the program when it failed.
func must[T any](answer T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return answer
}

func main() {
	ctx := context.Background()
	authorize := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("BELAY_TOKEN"))
		return nil
	}
	client := must(belay.NewClientWithResponses(os.Getenv("BELAY_URL"), belay.WithRequestEditorFn(authorize)))

	// done follows an accepted operation to its end, and answers the id of what it was about.
	done := func(operation *belay.Operation, body []byte) uuid.UUID {
		if operation == nil {
			fail("expected an operation, found %s", body)
		}
		wait := 30
		for range 10 {
			answer := must(client.GetOperationWithResponse(ctx, operation.Id, &belay.GetOperationParams{WaitSeconds: &wait}))
			if answer.JSON200 == nil {
				fail("expected an operation, found %s", answer.Body)
			}
			operation = answer.JSON200
			if operation.EndedAt != nil {
				break
			}
		}
		if *operation.State != "succeeded" {
			fail("%s is %s: %v", *operation.Type, *operation.State, operation.Error)
		}
		return *operation.TargetId
	}

	var body belay.InstanceCreate
	if err := json.Unmarshal([]byte(os.Getenv("INSTANCE")), &body); err != nil {
		fail("%v", err)
	}
	created := must(client.CreateInstanceWithResponse(ctx, &belay.CreateInstanceParams{}, body))
	id := done(created.JSON202, created.Body)
	instance := must(client.GetInstanceWithResponse(ctx, id, &belay.GetInstanceParams{}))
	if instance.JSON200 == nil || *instance.JSON200.State != "running" {
		fail("expected a running instance, found %s", instance.Body)
	}
	filter := fmt.Sprintf("name = %q", body.Name)
	page := must(client.ListInstancesWithResponse(ctx, &belay.ListInstancesParams{Filter: &filter}))
	if page.JSON200 == nil || len(page.JSON200.Items) != 1 || page.JSON200.Items[0].Id != id {
		fail("the list does not show it: %s", page.Body)
	}
	deleted := must(client.DeleteInstanceWithResponse(ctx, id, &belay.DeleteInstanceParams{}))
	done(deleted.JSON202, deleted.Body)
	expunged := must(client.ExpungeInstanceWithResponse(ctx, id, &belay.ExpungeInstanceParams{}, belay.ExpungeInstanceJSONRequestBody{}))
	done(expunged.JSON202, expunged.Body)
	fmt.Printf("%s was deployed, read, listed and removed\n", body.Name)
}
