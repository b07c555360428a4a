package main

import (
	"cmp"
	"crypto/subtle"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// sessions answers which logins are alive, and ends them.
type sessions struct {
	service *simulator.Service
	timeout time.Duration
	leases  *leases

	mutex   sync.Mutex
	renewed map[string]string // a session's key by a later cookie of it
	retired map[string]bool   // cookies that are accepted no longer; true: by the SDK neither
}

func newSessions(service *simulator.Service, timeout time.Duration, leases *leases) *sessions {
	return &sessions{
		service: service, timeout: timeout, leases: leases, renewed: map[string]string{}, retired: map[string]bool{},
	}
}

// list returns the sessions of clients.
func (s *sessions) list() []types.UserSession {
	ctx := s.service.Context
	manager := ctx.Session.Get(ctx.Map.SessionManager().Reference()).(*simulator.SessionManager)
	return manager.SessionList
}

// expire ends sessions by key. A vCenter drops a session's objects with it, leases among them; keepLeases
// leaves those to run into their own timeout instead.
func (s *sessions) expire(keys []string, keepLeases bool) {
	ctx := s.service.Context
	for _, key := range keys {
		ctx.Map.SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
		if !keepLeases {
			s.leases.endSession(key, outcomeSessionEnded)
		}
	}
}

// expireAll ends every session.
func (s *sessions) expireAll(keepLeases bool) {
	var keys []string
	for _, session := range s.list() {
		keys = append(keys, session.Key)
	}
	log.Printf("expiring %d sessions", len(keys))
	s.expire(keys, keepLeases)
}

// expireIdle ends the sessions that no call has used for the session timeout.
func (s *sessions) expireIdle() {
	var keys []string
	for _, session := range s.list() {
		if time.Since(session.LastActiveTime) > s.timeout {
			keys = append(keys, session.Key)
		}
	}
	s.expire(keys, false)
}

// admit lets no request revive a session that has been idle too long, and knows sessions by their later cookies.
func (s *sessions) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.expireIdle()
		if cookie, err := r.Cookie(soap.SessionCookieName); err == nil {
			s.mutex.Lock()
			key, later := s.renewed[cookie.Value]
			retired := s.retired[cookie.Value]
			s.mutex.Unlock()
			if later || retired {
				r.Header.Del("Cookie")
			}
			if later && !retired {
				r.AddCookie(&http.Cookie{Name: soap.SessionCookieName, Value: key})
			}
		}
		next.ServeHTTP(w, r)
	})
}

// renew gives the session of a request a new cookie, and accepts the request's own no longer: for files, and
// everywhere if asked to. It returns nil for a request without a cookie.
func (s *sessions) renew(r *http.Request, everywhere bool) *http.Cookie {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	value := newTicket()
	s.renewed[value] = cmp.Or(s.renewed[cookie.Value], cookie.Value)
	s.retired[cookie.Value] = everywhere
	return &http.Cookie{Name: soap.SessionCookieName, Value: value, Path: "/", Secure: true, HttpOnly: true}
}

// alive reports whether a request for a file carries a cookie of a session.
func (s *sessions) alive(r *http.Request) bool {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return false
	}
	s.expireIdle()
	s.mutex.Lock()
	key := cmp.Or(s.renewed[cookie.Value], cookie.Value)
	_, retired := s.retired[cookie.Value]
	s.mutex.Unlock()
	if retired {
		return false
	}
	for _, session := range s.list() {
		if session.Key == key {
			return true
		}
	}
	return false
}

// requireLogin makes Login check the one user. Names are compared without case, as single sign-on does.
func (s *server) requireLogin() {
	s.inventory.registry.SessionManager().ValidLogin = func(login *types.Login) bool {
		return s.knows(login.UserName, login.Password)
	}
}

func (s *server) knows(username, password string) bool {
	same := subtle.ConstantTimeCompare([]byte(password), []byte(s.password)) == 1
	return strings.EqualFold(username, s.username) && same
}

// anonymous reports whether a method may be called before Login. A property read of objects that exist goes
// on to the simulator, which answers as vCenter does: every property is missing, with NotAuthenticated as the
// reason. A session's own objects, views for one, are gone with it.
func anonymous(registry *simulator.Registry, method *simulator.Method) bool {
	exist := func(specs []types.PropertyFilterSpec) bool {
		for _, spec := range specs {
			for _, object := range spec.ObjectSet {
				if registry.Get(object.Obj) == nil {
					return false
				}
			}
		}
		return true
	}
	switch body := method.Body.(type) {
	case *types.Login, *types.LoginByToken, *types.LoginExtensionByCertificate, *types.CloneSession, *types.RetrieveServiceContent:
		return true
	case *types.RetrievePropertiesEx:
		return exist(body.SpecSet)
	case *types.RetrieveProperties:
		return exist(body.SpecSet)
	}
	reference, _, ok := fetched(method)
	return ok && reference.Type == "ServiceInstance"
}
