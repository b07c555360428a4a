package main

import (
	"fmt"
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// checkRead mends what the simulator does with property reads that find nothing. A vCenter answers a read of
// an object that is gone with ManagedObjectNotFound, and a single read (Fetch) of an unset property with
// nothing; the simulator leaves out the one, and answers the other with a response that clients cannot parse.
// It reports whether it has answered the call.
func (g *gate) checkRead(ctx *simulator.Context, method *simulator.Method) (mo.Reference, bool) {
	gone := func(reference types.ManagedObjectReference) (mo.Reference, bool) {
		switch reference.Type {
		case "ManagedEntity", "ComputeResource":
			return nil, false // the simulator takes these for any of their subtypes
		}
		if ctx.Session.Get(reference) != nil {
			return nil, false
		}
		text := fmt.Sprintf("The object '%s' has already been deleted or has not been completely created", reference)
		object, _ := g.refuse(method, text, &types.ManagedObjectNotFound{Obj: reference})
		return object, true
	}
	var specs []types.PropertyFilterSpec
	switch body := method.Body.(type) {
	case *types.RetrievePropertiesEx:
		specs = body.SpecSet
	case *types.RetrieveProperties:
		specs = body.SpecSet
	}
	for _, spec := range specs {
		if missing := spec.ReportMissingObjectsInResults; missing != nil && *missing {
			continue
		}
		for _, object := range spec.ObjectSet {
			if answer, ok := gone(object.Obj); ok {
				return answer, true
			}
		}
	}
	reference, property, ok := fetched(method)
	if !ok {
		return nil, false
	}
	if answer, ok := gone(reference); ok {
		return answer, true
	}
	if ctx.Session.Get(reference) != nil && g.unset(ctx, reference, property) {
		object, _ := g.answer(method, nil)
		return object, true
	}
	return nil, false
}

// unset reports whether an object has a property that has no value.
func (g *gate) unset(ctx *simulator.Context, reference types.ManagedObjectReference, property string) bool {
	collector, ok := ctx.Session.Get(g.server.inventory.client.ServiceContent.PropertyCollector).(*simulator.PropertyCollector)
	if !ok {
		return false
	}
	answer, ok := collector.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{SpecSet: []types.PropertyFilterSpec{{
		PropSet:   []types.PropertySpec{{Type: reference.Type, PathSet: []string{property}}},
		ObjectSet: []types.ObjectSpec{{Obj: reference}},
	}}}).(*methods.RetrievePropertiesExBody)
	if !ok || answer.Fault() != nil || len(answer.Res.Returnval.Objects) == 0 {
		return false
	}
	object := answer.Res.Returnval.Objects[0]
	return len(object.PropSet) == 0 && len(object.MissingSet) == 0
}

// fetched returns what a Fetch call reads; pyvmomi 9 reads single properties by it. Its type is internal to
// the simulator.
func fetched(method *simulator.Method) (types.ManagedObjectReference, string, bool) {
	if method.Name != "Fetch" {
		return types.ManagedObjectReference{}, "", false
	}
	body := reflect.ValueOf(method.Body).Elem()
	reference, known := body.FieldByName("This").Interface().(types.ManagedObjectReference)
	property, named := body.FieldByName("Prop").Interface().(string)
	return reference, property, known && named
}
