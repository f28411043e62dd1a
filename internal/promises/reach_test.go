package promises

import (
	"fmt"
	"go/types"
	"maps"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// finding is one violation, under the exported identifier that leads to it.
type finding struct {
	Root string // such as signing.Sign
	Path string // from there
	What string
}

func (f finding) String() string { return f.Path + ": " + f.What }

// reach walks what can be reached from the exported identifiers of the public
// packages among pkgs, and returns what must not be. The others among pkgs are
// where the key interfaces are looked up.
func reach(pkgs []*packages.Package) ([]finding, error) {
	w := &walker{}
	byPath := make(map[string]*types.Package)
	for _, p := range pkgs {
		byPath[p.PkgPath] = p.Types
	}
	for _, k := range keyInterfaces {
		p := byPath[k[0]]
		if p == nil || p.Scope().Lookup(k[1]) == nil {
			return nil, fmt.Errorf("%s.%s is not there to compare with", k[0], k[1])
		}
		i, ok := p.Scope().Lookup(k[1]).Type().Underlying().(*types.Interface)
		if !ok {
			return nil, fmt.Errorf("%s.%s is no interface", k[0], k[1])
		}
		w.keys = append(w.keys, keyInterface{k[0] + "." + k[1], i})
	}
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		if !ours(path) || !public(path) {
			continue
		}
		scope := byPath[path].Scope()
		for _, name := range scope.Names() {
			if o := scope.Lookup(name); o.Exported() {
				w.from(o)
			}
		}
	}
	return w.found, nil
}

type keyInterface struct {
	name string
	t    *types.Interface
}

type walker struct {
	keys  []keyInterface
	found []finding

	root string
	// seen holds the types that were walked for this root: each identifier is
	// walked by itself, so that each is named that leads to a violation.
	seen map[string]bool
	// foreign: inside a type of another module, which is walked for what it shows,
	// but knows nothing of a card.
	foreign bool
}

// from walks one exported identifier.
func (w *walker) from(o types.Object) {
	w.root = short(o.Pkg().Path()) + "." + o.Name()
	w.seen = make(map[string]bool)
	switch o := o.(type) {
	case *types.Func:
		w.function(w.root, w.root, "", o)
	case *types.TypeName:
		if n, ok := o.Type().(*types.Named); ok {
			w.typeParams(w.root, w.root, n.TypeParams())
		}
		w.use(w.root, w.root, o.Type())
	default:
		w.dynamic(w.root, w.root, o.Type())
		w.use(w.root, w.root, o.Type())
	}
}

func (w *walker) report(path, format string, args ...any) {
	w.found = append(w.found, finding{w.root, path, fmt.Sprintf(format, args...)})
}

// nameOf is how the tables above call a named type.
func nameOf(o *types.TypeName) string {
	if o.Pkg() == nil {
		return o.Name()
	}
	return short(o.Pkg().Path()) + "." + o.Name()
}

// use walks a type that occurs in the declaration called in.
func (w *walker) use(path, in string, t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		for a := range t.TypeArgs().Types() {
			w.use(path, in, a)
		}
		w.use(path, in, t.Rhs())
	case *types.Basic:
		if t.Kind() == types.UnsafePointer {
			w.report(path, "unsafe.Pointer %s", forbidden["unsafe.Pointer"])
		}
	case *types.Pointer:
		w.use(path, in, t.Elem())
	case *types.Slice:
		w.use(path, in, t.Elem())
	case *types.Array:
		w.use(path, in, t.Elem())
	case *types.Chan:
		w.use(path, in, t.Elem())
	case *types.Map:
		w.use(path, in, t.Key())
		w.use(path, in, t.Elem())
	case *types.Signature:
		w.signature(path, in, t)
	case *types.Struct:
		w.fields(path, in, t)
		w.methods(path, in, t)
	case *types.Interface:
		w.interfaceTypes(path, in, t)
		w.methods(path, in, t)
	case *types.Union:
		for i := range t.Len() {
			w.use(path, in, t.Term(i).Type())
		}
	case *types.Named:
		w.named(path, in, t)
	case *types.TypeParam: // its constraint was walked where it is declared
	default:
		w.report(path, "a type of a kind that this walk does not know: %T", t)
	}
}

// named walks a defined type: what may not occur, and all that a holder of a value
// can call and read.
func (w *walker) named(path, in string, t *types.Named) {
	o := t.Obj()
	full := o.Name()
	if o.Pkg() != nil {
		full = o.Pkg().Path() + "." + o.Name()
	}
	if why, no := forbidden[full]; no {
		if _, ok := allowedTypes[in+": "+full]; !ok {
			w.report(path, "%s %s", full, why)
		}
		return
	}
	if o.Pkg() != nil && strings.HasPrefix(o.Pkg().Path(), "github.com/miekg/pkcs11") {
		w.report(path, "%s is the card itself", full)
		return
	}
	if o.Pkg() != nil && o.Pkg().Path() == tbsPath {
		w.report(path, "%s occurs where no document gives or takes one", full)
		return
	}
	w.holder(path, t)
}

// holder walks all that a holder of a value of the defined type t can do.
func (w *walker) holder(path string, t *types.Named) {
	for a := range t.TypeArgs().Types() {
		w.use(path+"["+types.TypeString(a, (*types.Package).Name)+"]", "a type argument", a)
	}
	key := types.TypeString(t, (*types.Package).Path)
	if w.seen[key] {
		return
	}
	w.seen[key] = true

	o := t.Obj()
	name := nameOf(o)
	if name != path {
		path += " > " + name
	}
	defer func(before bool) { w.foreign = before }(w.foreign)
	w.foreign = o.Pkg() == nil || !ours(o.Pkg().Path())
	if o.Pkg() != nil && ours(o.Pkg().Path()) && !public(o.Pkg().Path()) {
		if _, ok := internals[name]; !ok {
			w.report(path, "an internal type that holders were not meant to see")
		}
	}
	w.methods(path, name, t)
	switch u := t.Underlying().(type) {
	case *types.Struct:
		w.fields(path, name, u)
	case *types.Interface:
		w.interfaceTypes(path, name, u)
	default:
		w.use(path, name, u)
	}
}

// methods walks the methods that can be called on a value of type t or a pointer to
// one, those promoted from embedded fields among them.
func (w *walker) methods(path, owner string, t types.Type) {
	for _, k := range w.keys {
		if types.Implements(t, k.t) || types.Implements(types.NewPointer(t), k.t) {
			w.report(path, "has the methods of %s", k.name)
		}
	}
	var set *types.MethodSet
	if types.IsInterface(t) {
		set = types.NewMethodSet(t)
	} else {
		set = types.NewMethodSet(types.NewPointer(t))
	}
	for s := range set.Methods() {
		f := s.Obj().(*types.Func)
		if !f.Exported() {
			continue
		}
		if pinned, ok := opaque[owner]; ok && !slices.Contains(pinned, f.Name()) {
			w.report(path+"."+f.Name(), "a new method of an opaque type")
		}
		w.function(path+"."+f.Name(), owner+"."+f.Name(), owner, f)
	}
}

// fields walks what can be read of a struct: exported fields, and those promoted
// from embedded ones, which need not be exported themselves.
func (w *walker) fields(path, owner string, t *types.Struct) {
	for f := range t.Fields() {
		if f.Exported() {
			if _, ok := opaque[owner]; ok {
				w.report(path+"."+f.Name(), "an exported field of an opaque type")
			}
			w.dynamic(path+"."+f.Name(), owner+"."+f.Name(), f.Type())
			w.use(path+"."+f.Name(), owner+"."+f.Name(), f.Type())
			continue
		}
		if !f.Embedded() {
			continue
		}
		e := types.Unalias(f.Type())
		if p, ok := e.(*types.Pointer); ok {
			e = types.Unalias(p.Elem())
		}
		key := owner + " embeds " + types.TypeString(e, (*types.Package).Path)
		if s, ok := e.Underlying().(*types.Struct); ok && !w.seen[key] {
			w.seen[key] = true
			w.fields(path+"."+f.Name(), owner, s)
		}
	}
}

// interfaceTypes walks what an interface embeds and the types of its type set.
func (w *walker) interfaceTypes(path, in string, t *types.Interface) {
	for e := range t.EmbeddedTypes() {
		w.use(path, in, e)
	}
}

// function walks a function or method, called name in the tables; owner is the type
// that has the method.
func (w *walker) function(path, name, owner string, f *types.Func) {
	s := f.Signature()
	if f.Pkg() != nil && ours(f.Pkg().Path()) {
		if _, ok := allowedNames[name]; !ok && signs.MatchString(f.Name()) {
			w.report(path, "its name says that it signs")
		}
	}
	if w.documentMethod(path, owner, f.Name(), s) {
		return
	}
	w.typeParams(path, name, s.TypeParams())
	w.signature(path, name, s)
}

// documentMethod walks the two methods in which the types of internal/tbs may
// occur: ToBeSigned and Finish of a document, in exactly their form.
func (w *walker) documentMethod(path, owner, name string, s *types.Signature) bool {
	if _, ok := documents[owner]; !ok {
		return false
	}
	in, out := s.Params(), s.Results()
	switch {
	case name == "ToBeSigned" && in.Len() == 0 && out.Len() == 2 && isTBS(out.At(0).Type(), "Message") && isError(out.At(1).Type()):
		w.holder(path, out.At(0).Type().(*types.Named))
		return true
	case name == "Finish" && in.Len() == 1 && isTBS(in.At(0).Type(), "Signature") && out.Len() == 2 && isError(out.At(1).Type()):
		w.holder(path, in.At(0).Type().(*types.Named))
		w.use(path, owner+"."+name, out.At(0).Type())
		return true
	}
	return false
}

func isTBS(t types.Type, name string) bool {
	n, ok := t.(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == tbsPath && n.Obj().Name() == name
}

func isError(t types.Type) bool { return types.Identical(t, types.Universe.Lookup("error").Type()) }

func (w *walker) typeParams(path, in string, list *types.TypeParamList) {
	for p := range list.TypeParams() {
		w.use(path+"["+p.String()+"]", in, p.Constraint())
	}
}

// signature walks parameters and results, and reports the form of a raw signature:
// bytes or a digest in, bytes out.
func (w *walker) signature(path, name string, s *types.Signature) {
	w.tuple(path, name, s.Params())
	w.tuple(path, name, s.Results())
	for v := range s.Results().Variables() {
		w.dynamic(path, name, v.Type())
	}
	if _, ok := allowedBytes[name]; ok || w.foreign {
		return
	}
	if anyOf(s.Params(), isInput) && anyOf(s.Results(), isBytes) {
		w.report(path, "takes bytes or a digest and returns bytes, as what makes raw signatures does")
	}
}

// dynamic reports what is given out as an interface other than error: this walk
// sees the type alone, and a type assertion may find a key in the value.
func (w *walker) dynamic(path, name string, t types.Type) {
	if _, ok := allowedInterfaces[name]; ok || w.foreign {
		return
	}
	switch u := types.Unalias(t).(type) {
	case *types.TypeParam:
		return
	case *types.Pointer:
		w.dynamic(path, name, u.Elem())
		return
	case *types.Slice:
		w.dynamic(path, name, u.Elem())
		return
	case *types.Array:
		w.dynamic(path, name, u.Elem())
		return
	case *types.Chan:
		w.dynamic(path, name, u.Elem())
		return
	case *types.Map:
		w.dynamic(path, name, u.Key())
		w.dynamic(path, name, u.Elem())
		return
	}
	if types.IsInterface(t) && !isError(t) {
		w.report(path, "gives out the interface %s, behind which any value can be", types.TypeString(t, (*types.Package).Name))
	}
}

func (w *walker) tuple(path, name string, list *types.Tuple) {
	for v := range list.Variables() {
		w.use(path, name, v.Type())
	}
}

func anyOf(list *types.Tuple, is func(types.Type) bool) bool {
	for v := range list.Variables() {
		if is(v.Type()) {
			return true
		}
	}
	return false
}

// isBytes: []byte or [N]byte, of any name, and pointers to them.
func isBytes(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Slice:
		return isByte(u.Elem())
	case *types.Array:
		return isByte(u.Elem())
	case *types.Pointer:
		return isBytes(u.Elem())
	}
	return false
}

func isByte(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Kind() == types.Byte
}

// isInput: what something to be signed comes as.
func isInput(t types.Type) bool {
	switch types.TypeString(t, (*types.Package).Path) {
	case "crypto.Hash", "crypto.SignerOpts", "hash.Hash", "io.Reader":
		return true
	}
	return isBytes(t)
}
